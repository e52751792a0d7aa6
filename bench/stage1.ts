/**
 * Images a second of one Stage I step (sandwich of 4 passes, EMA teacher, optimiser), on every backend, interleaved:
 *
 *     npm run build && node dist/bench/stage1.js [MODEL] [BATCH] [ROUNDS]
 *
 * Random images: what is timed is the arithmetic, without data loading.
 */
import type { Backend } from "../src/backend/backend.js";
import { openBackend } from "../src/backend/open.js";
import { madds } from "../src/cost/madds.js";
import { BackendError } from "../src/errors.js";
import { build, topSlot } from "../src/models/build.js";
import { modelSpec } from "../src/models/registry.js";
import { allocSpan, initState } from "../src/models/state.js";
import { Philox } from "../src/random/philox.js";
import { Input } from "../src/train/input.js";
import { Learner } from "../src/train/learner.js";
import { Stage1 } from "../src/train/stage1.js";

const [model = "ds_mbnet_28", batchText = "64", roundsText = "15"] = process.argv.slice(2);
const batch = Number(batchText);
const rounds = Number(roundsText);

interface Runner {
  name: string;
  step(index: number): number;
  times: number[];
}

function runner(backend: Backend): Runner {
  const net = build(modelSpec(model));
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  const learner = new Learner(backend, net, span);
  const settings = { seed: 0, smoothing: 0.1, drop: 0.2, random_widths: 2, model_ema_decay: 0.997 };
  const stage = new Stage1(learner, { ...settings, bootstrap: "inplace" }, batch);
  const input = new Input(backend, net, batch);
  const { height, width, channels } = net.spec.input;
  const random = new Philox(0, "bench");
  const images = Float32Array.from({ length: batch * height * width * channels }, () => random.normal());
  const labels = Int32Array.from({ length: batch }, () => random.int(net.spec.classes));
  return {
    name: `${backend.build}, ${backend.threads} ${backend.threads === 1 ? "thread" : "threads"}`,
    times: [],
    step(index) {
      const started = performance.now();
      stage.backward(input.write(images, labels), input.labels, index);
      learner.step(["decayed", "plain"], { lr: 0.01, momentum: 0.9, weightDecay: 1e-4 });
      learner.ema(0.997);
      return performance.now() - started;
    },
  };
}

const runners: Runner[] = [];
for (const device of ["native", "wasm"] as const) {
  for (const threads of [1, 2]) {
    try {
      runners.push(runner(await openBackend({ device, threads })));
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      console.log(`${device}, ${threads} threads: left out, ${error.message}`);
    }
  }
}
for (let round = 0; round < rounds + 2; round++) {
  for (const r of runners) {
    const ms = r.step(round);
    if (round >= 2) r.times.push(ms); // two to warm up
  }
}
const net = build(modelSpec(model));
console.log(
  `${model}, batch ${batch}, widest ${(madds(net, topSlot(net)) / 1e6).toFixed(1)} M MAdds, ${rounds} rounds`,
);
console.log("backend                      median ms   images/s (median)   (best)");
for (const { name, times } of runners) {
  const sorted = [...times].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  const rate = (ms: number) => ((batch / ms) * 1000).toFixed(0);
  console.log(
    `${name.padEnd(28)} ${median.toFixed(1).padStart(9)} ${rate(median).padStart(19)} ${rate(sorted[0]!).padStart(8)}`,
  );
}
process.exit(0);
