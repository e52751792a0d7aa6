/**
 * One width of a supernet, or one route through its gates, as a network of its own, for where nothing is to be chosen: its
 * layers hold copies of the prefixes that it uses, and compute the same bits.
 */
import { UsageError } from "../errors.js";
import { asFloat32, float32Tensor } from "../io/float32.js";
import { type ModelFile, selectTensors } from "../io/model-file.js";
import { channelsAt, choiceAt, type Route, type Slot, startOf } from "../nn/width.js";
import { build, paramsAlong, type Supernet, topSlot } from "./build.js";
import { checkCalibrated, networkOf } from "./file.js";
import { fullWidth, type ModelSpec, type StageSpec, type StemSpec, squeezeOf } from "./spec.js";
import { checkParameters } from "./state.js";

/**
 * The model on `asked` alone: a network of one width without gates, and no more of the file than that needs. The tensors are
 * copies. UsageError where there is no such width or route, UncalibratedError where its norm statistics were never measured,
 * FormatError where the tensors are not the network's.
 */
export function sliceModel(file: ModelFile, asked: Route): ModelFile {
  const full = networkOf(file);
  const { spec } = full;
  const route = checkRoute(full, asked, file.calibrated ?? []);
  const tensors = selectTensors(file.tensors, "parameters");
  checkParameters(full, tensors);
  const model = narrowModel(file.model.name, spec, route);
  const from = paramsAlong(full, route);
  const to = paramsAlong(build(model.spec), 0);
  return {
    model,
    classes: file.classes,
    preprocessing: file.preprocessing,
    candidates: [],
    calibrated: [0],
    ...(file.kernelBuild !== undefined && { kernelBuild: file.kernelBuild }),
    tensors: new Map(
      to.map(({ name, fileShape }, i) => {
        const whole = tensors.get(from[i]!.name)!;
        return [name, float32Tensor([...fileShape], prefix(asFloat32(whole), whole.shape, fileShape))];
      }),
    ),
  };
}

/** The route by numbers where it has them; one width for all gates is no route. */
function checkRoute(net: Supernet, asked: Route, calibrated: readonly Slot[]): Route {
  if (typeof asked === "object") {
    if (asked.length !== net.gates.length) {
      throw new UsageError(`route: expected a width for each of the ${net.gates.length} gates, got ${asked.length}`);
    }
    for (const slot of asked) checkSlot(net, slot, calibrated);
    return new Set(asked).size === 1 ? asked[0]! : asked;
  }
  const slot = asked === "largest" ? topSlot(net) : asked;
  checkSlot(net, slot, calibrated);
  return slot;
}

function checkSlot(net: Supernet, slot: Slot, calibrated: readonly Slot[]): void {
  if (slot !== "largest" && (!Number.isInteger(slot) || slot < 0 || slot >= net.widths)) {
    throw new UsageError(`width: expected 0 to ${net.widths - 1} or largest, got ${slot}`);
  }
  checkCalibrated(slot, calibrated);
}

/** The network that a route is, by a name of its own. */
export function narrowModel(name: string, spec: ModelSpec, route: Route): { name: string; spec: ModelSpec } {
  const [title, label] = typeof route === "object" ? ["route", route.join("-")] : ["width", route];
  return {
    name: `${name}_${title}_${label}`,
    spec: { ...narrowSpec(spec, route), description: `${title} ${label} of ${name}` },
  };
}

/** The table whose rows have the one width that `route` takes there. A stage becomes several where its blocks come to differ. */
export function narrowSpec({ gate: _, ...spec }: ModelSpec, route: Route): ModelSpec {
  let at = startOf(route);
  let gate = 0;
  const stem = narrowRow(spec.stem, at);
  const stages = spec.stages.flatMap((stage) => {
    const { gates = [], squeeze: __, ...shape } = stage;
    const rows: StageSpec[] = [];
    for (let j = 0; j < stage.repeat; j++) {
      if (gates.includes(j)) at = choiceAt(route, gate++);
      const squeeze = squeezeOf(stage, j);
      const row: StageSpec = { ...narrowRow(shape, at), repeat: 1, ...(squeeze !== null && { squeeze }) };
      const last = rows.at(-1);
      if (last?.widths[0] === row.widths[0] && last?.squeeze === row.squeeze) last!.repeat++;
      else rows.push(j === 0 ? row : { ...row, stride: 1 });
    }
    return rows;
  });
  return { ...spec, stem, stages, candidates: null };
}

function narrowRow<R extends StemSpec | StageSpec>(row: R, slot: Slot): R {
  const width = channelsAt(row.widths, slot);
  const full = fullWidth(row);
  return { ...row, widths: [width], ...(full > width && { cutFrom: full }) };
}

/** The first values along the two channel axes; along the others `shape` and `part` are the same. A copy. */
export function prefix(values: Float32Array, shape: readonly number[], part: readonly number[]): Float32Array {
  const row = (of: readonly number[]) => of.slice(1).reduce((a, b) => a * b, 1);
  const [length, stride] = [row(part), row(shape)];
  const out = new Float32Array(part[0]! * length);
  for (let i = 0; i < part[0]!; i++) out.set(values.subarray(i * stride, i * stride + length), i * length);
  return out;
}
