/**
 * Whether memory grows: over predictions with changes of budget, and over networks loaded and disposed of.
 *
 *     npm run build && node --expose-gc dist/bench/leaks.js [--predictions 10000] [--switches 1000] [--cycles 100] [--device native] [--json]
 *
 * `ds_mbnet_28` with random weights. Resident memory is read after forced collections, each phase against its own warm-up.
 */
import "./plain-errors.js";
import { parseArgs } from "node:util";
import { openBackend } from "../src/backend/open.js";
import { madds } from "../src/cost/madds.js";
import { calibrationTable } from "../src/evaluate/calibrate.js";
import { load } from "../src/index.js";
import { encodeModel } from "../src/io/model-file.js";
import { build } from "../src/models/build.js";
import { modelSpec } from "../src/models/registry.js";
import { allocSpan, initState, writeState } from "../src/models/state.js";
import { Philox } from "../src/random/philox.js";

const { values } = parseArgs({
  options: {
    predictions: { type: "string", default: "10000" },
    switches: { type: "string", default: "1000" },
    cycles: { type: "string", default: "100" },
    device: { type: "string", default: "auto" },
    threads: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const [predictions, switches, cycles] = [values.predictions, values.switches, values.cycles].map(Number) as number[];
const options = { device: values.device as "auto", threads: Number(values.threads) };
const collect = (globalThis as { gc?: () => void }).gc;
if (collect === undefined) throw new Error("run with node --expose-gc");

/** Resident bytes once garbage is gone and what was freed late is freed. */
async function resident(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    collect!();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return process.memoryUsage.rss();
}

/** A model file with random weights, and a budget table of random scores. */
async function model(): Promise<Uint8Array> {
  const spec = modelSpec("ds_mbnet_28");
  const net = build(spec);
  const backend = await openBackend(options);
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  const { height, width, channels } = spec.input;
  const { candidates } = net.gates[0]!;
  const random = new Philox(0, "bench");
  const scores = Float32Array.from({ length: 200 * candidates.length }, () => random.normal());
  const correct = Uint8Array.from(scores, () => random.int(2));
  const costs = candidates.map((k) => madds(net, k, true));
  const bytes = encodeModel({
    model: { name: "ds_mbnet_28", spec },
    classes: Array.from({ length: spec.classes }, (_, c) => String(c)),
    preprocessing: { height, width, channels, interpolation: "bicubic", cropPct: 1, mean: [0.5], std: [0.25] },
    candidates: [...candidates],
    calibrated: Array.from({ length: net.widths }, (_, k) => k),
    calibration: calibrationTable({ scores, correct, images: 200 }, costs),
    tensors: writeState(backend, net, span),
  });
  backend.dispose();
  return bytes;
}

const bytes = await model();
const image = { data: new Uint8Array(28 * 28).map((_, i) => (i * 7) % 256), width: 28, height: 28 };

const network = await load(bytes, options);
const widths = network.widths;
const costs = Array.from({ length: widths }, (_, width) => ({ width }));
const every = predictions / switches;
const predict = async (count: number) => {
  for (let i = 0; i < count; i++) await network.classify(image, { budget: costs[Math.floor(i / every) % widths]! });
};
await predict(predictions / 10);
const [before, arenaBefore] = [await resident(), network.memory()];
await predict(predictions);
const [after, arenaAfter] = [await resident(), network.memory()];
const { name, isa } = network.device;
network.dispose();

const cycle = async (count: number) => {
  let arena = 0;
  for (let i = 0; i < count; i++) {
    const each = await load(bytes, options);
    await each.classify(image);
    arena = each.memory();
    each.dispose();
  }
  return arena;
};
const warm = Math.ceil(cycles / 5);
const arenaFirst = await cycle(warm);
const early = await resident();
const arenaLast = await cycle(cycles - warm);
const late = await resident();

const result = {
  kernels: `${name}-${isa}`,
  ...{ predictions, switches, cycles },
  predictionsGrowth: after - before,
  arenaGrowth: arenaAfter - arenaBefore,
  cyclesGrowth: late - early,
  arenaGrowthOfCycles: arenaLast - arenaFirst,
};
if (values.json) console.log(JSON.stringify(result));
else {
  const megabytes = (value: number) => `${(value / 1e6).toFixed(2).padStart(7)} MB`;
  console.log(`ds_mbnet_28, ${result.kernels}`);
  console.log(
    `${predictions} predictions, ${switches} changes of budget  ${megabytes(after - before)}   asked for: under 10`,
  );
  console.log(
    `  arena in use                              ${String(result.arenaGrowth).padStart(7)} B    asked for: 0`,
  );
  console.log(
    `load and dispose, cycle ${warm} to ${cycles}            ${megabytes(late - early)}   asked for: under 16`,
  );
  console.log(
    `  arena in use                              ${String(result.arenaGrowthOfCycles).padStart(7)} B    asked for: 0`,
  );
}
process.exit(0);
