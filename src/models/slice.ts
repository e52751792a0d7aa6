/**
 * One width of a supernet as a network of its own, for where nothing is to be chosen: its layers hold copies of the prefixes
 * that the width uses, and compute the same bits.
 */
import { UncalibratedError, UsageError } from "../errors.js";
import { asFloat32, float32Tensor } from "../io/float32.js";
import { checkTensors, type ModelFile, selectTensors } from "../io/model-file.js";
import type { StoredTensor } from "../io/safetensors.js";
import { channelsAt, type Slot } from "../nn/width.js";
import { build, paramsAlong, type Supernet, topSlot } from "./build.js";
import { fullWidth, type ModelSpec, type StageSpec, type StemSpec } from "./spec.js";

/**
 * The model at `slot` alone: a network of one width without gates, and no more of the file than that needs. The tensors are
 * copies. UsageError where there is no such width, UncalibratedError where its norm statistics were never measured, FormatError
 * where the tensors are not the network's.
 */
export function sliceModel(file: ModelFile, slot: Slot): ModelFile {
  const spec = file.model.spec as ModelSpec;
  const full = build(spec);
  const at = checkSlot(full, slot, file.calibrated ?? []);
  const tensors = selectTensors(file.tensors, "parameters");
  checkTensors(new Map(full.layout.params.map((p) => [p.name, p.fileShape])), tensors);
  const name = `${file.model.name}_width_${at}`;
  const narrow = { ...narrowSpec(spec, at), description: `width ${at} of ${file.model.name}` };
  const from = paramsAlong(full, at);
  const to = paramsAlong(build(narrow), 0);
  return {
    model: { name, spec: narrow },
    classes: file.classes,
    preprocessing: file.preprocessing,
    candidates: [],
    calibrated: [0],
    ...(file.kernelBuild !== undefined && { kernelBuild: file.kernelBuild }),
    tensors: new Map(to.map((param, i) => [param.name, prefix(tensors.get(from[i]!.name)!, param.fileShape)])),
  };
}

/** The slot by number where it has one. */
function checkSlot(net: Supernet, asked: Slot, calibrated: readonly Slot[]): Slot {
  const slot = asked === "largest" ? topSlot(net) : asked;
  if (slot !== "largest" && (!Number.isInteger(slot) || slot < 0 || slot >= net.widths)) {
    throw new UsageError(`width: expected 0 to ${net.widths - 1} or largest, got ${slot}`);
  }
  if (calibrated.includes(slot)) return slot;
  throw new UncalibratedError(
    `width ${slot} has no measured norm statistics; calibrated: ${calibrated.join(", ") || "none"}. ` +
      "Finish the training run, which measures them.",
  );
}

/** The table whose rows have the one width that `slot` stands for. */
export function narrowSpec({ gate: _, ...spec }: ModelSpec, slot: Slot): ModelSpec {
  let at: Slot = slot === "largest" ? slot : 0; // before the first gate
  const stem = narrowRow(spec.stem, at);
  const stages = spec.stages.flatMap(({ gates = [], ...stage }) => {
    if (gates.length === 0) return [narrowRow(stage, at)];
    const before = narrowRow(stage, at);
    at = slot;
    const behind = narrowRow(stage, at);
    const first = Math.min(...gates);
    if (first === 0 || before.widths[0] === behind.widths[0]) return [behind];
    // The stage changes its width on the way: it becomes two.
    return [
      { ...before, repeat: first },
      { ...behind, repeat: stage.repeat - first, stride: 1 as const },
    ];
  });
  return { ...spec, stem, stages, candidates: null };
}

function narrowRow<R extends StemSpec | Omit<StageSpec, "gates">>(row: R, slot: Slot): R {
  const width = channelsAt(row.widths, slot);
  const full = fullWidth(row);
  return { ...row, widths: [width], ...(full > width && { cutFrom: full }) };
}

/** The first values along the two channel axes; along the others both shapes are the same. */
function prefix(tensor: StoredTensor, shape: readonly number[]): StoredTensor {
  const values = asFloat32(tensor);
  const row = (of: readonly number[]) => of.slice(1).reduce((a, b) => a * b, 1);
  const [length, stride] = [row(shape), row(tensor.shape)];
  const out = new Float32Array(shape[0]! * length);
  for (let i = 0; i < shape[0]!; i++) out.set(values.subarray(i * stride, i * stride + length), i * length);
  return float32Tensor([...shape], out);
}
