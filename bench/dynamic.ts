/**
 * What routing costs: the engine lets the gate choose, against the same engine given the same images and the chosen widths as
 * fixed ones. Pairs of a run each, taken in turns, in alternating order:
 *
 *     npm run build && node dist/bench/dynamic.js [--model NAME] [--pairs 1000] [--images 20] [--device native] [--json]
 *
 * Random weights; the gate is biased so that each of its candidates is chosen, image by image. Prints the median of the pairs'
 * ratios with its 95 % interval from order statistics.
 */
import "./plain-errors.js";
import { parseArgs } from "node:util";
import { openBackend } from "../src/backend/open.js";
import { Plan } from "../src/engine/plan.js";
import { quantile } from "../src/engine/timing.js";
import { build } from "../src/models/build.js";
import { modelSpec } from "../src/models/registry.js";
import { allocSpan, initState } from "../src/models/state.js";
import { Philox } from "../src/random/philox.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "ds_mbnet_32" },
    pairs: { type: "string", default: "1000" },
    images: { type: "string", default: "20" },
    device: { type: "string", default: "auto" },
    threads: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const [pairs, images] = [Number(values.pairs), Number(values.images)];
const backend = await openBackend({ device: values.device as "auto", threads: Number(values.threads) });
const net = build(modelSpec(values.model));
const span = allocSpan(backend, net.layout.floats);
initState(backend, net, span, 0);
const plan = new Plan(backend, net, span, { batch: 1 });
const { height, width, channels } = net.spec.input;
const random = new Philox(0, "bench");
const { candidates } = net.gates[0]!;
const biases = candidates.map((_, chosen) => candidates.map((_, k) => (k === chosen ? 1e30 : 0)));
const sequence = Array.from({ length: images }, (_, i) => ({
  image: Float32Array.from({ length: height * width * channels }, () => random.normal()),
  chosen: i % candidates.length,
}));

/** Milliseconds in the engine for the whole sequence: giving the images and the knob is part of neither way. */
function pass(dynamic: boolean): number {
  let ms = 0;
  for (const { image, chosen } of sequence) {
    backend.f32.set(image, plan.input / 4);
    for (const gate of net.gates) plan.setBias(gate.index, biases[chosen]!);
    const started = performance.now();
    if (dynamic) plan.runDynamic(1);
    else plan.run(1, candidates[chosen]!);
    ms += performance.now() - started;
  }
  return ms;
}

for (let i = 0; i < 5; i++) pass(i % 2 === 0);
const ratios = Array.from({ length: pairs }, (_, pair) => {
  const first = pass(pair % 2 === 0);
  const second = pass(pair % 2 !== 0);
  return pair % 2 === 0 ? first / second : second / first;
}).sort((a, b) => a - b);

// The k-th of n sorted values bounds the median from below with the binomial's tail; the normal approximation of that.
const half = (1.96 * Math.sqrt(pairs)) / 2;
const result = {
  model: values.model,
  kernels: backend.build,
  threads: backend.threads,
  pairs,
  images,
  ratio: quantile(ratios, 0.5),
  low: ratios[Math.max(0, Math.floor(pairs / 2 - half))]!,
  high: ratios[Math.min(pairs - 1, Math.ceil(pairs / 2 + half))]!,
};
if (values.json) console.log(JSON.stringify(result));
else {
  const { model, kernels, threads, ratio, low, high } = result;
  console.log(`${model}, ${kernels}, ${threads} thread${threads === 1 ? "" : "s"}; ${pairs} pairs of ${images} images`);
  console.log(`dynamic / fixed: median ${ratio.toFixed(4)}, 95 % interval ${low.toFixed(4)} to ${high.toFixed(4)}`);
  console.log("asked for: median at most 1.02, upper end under 1.03");
}
process.exit(0);
