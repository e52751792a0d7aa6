/**
 * Steps of stage I in dsnet: DEVICE THREADS. A line of JSON in, one out (serve.mjs); train-pytorch.py answers the same in Python.
 *
 *     {op: "load", weights, images, batch, dropout}  → {}                    `images`: a file of floats, (N, H, W, C)
 *     {op: "run", task, widths, n}                   → {ms, losses, bytes}   of n steps; `bytes`: the most memory they took so far
 *
 * A `sandwich` step is stage I's: the EMA teacher's targets; the widest, the random `widths` and the slimmest, forward and backward;
 * SGD; EMA. A `full` step is the widest forward and backward, and SGD. Losses are by kind of pass. Image i is of class i mod classes.
 */
import { readFileSync } from "node:fs";
import { openBackend } from "../../dist/src/backend/open.js";
import { readSafetensors } from "../../dist/src/io/safetensors.js";
import { build, topSlot } from "../../dist/src/models/build.js";
import { allocSpan, readState } from "../../dist/src/models/state.js";
import { Input } from "../../dist/src/train/input.js";
import { Learner } from "../../dist/src/train/learner.js";
import { Stage1 } from "../../dist/src/train/stage1.js";
import { answer } from "./serve.mjs";

const [device, threads] = process.argv.slice(2);
let backend;
let tasks;

async function load({ weights, images, batch, dropout }) {
  const { metadata, tensors } = readSafetensors(readFileSync(weights));
  const net = build(JSON.parse(metadata.get("spec")));
  backend?.dispose();
  backend = await openBackend({ device, threads: Number(threads) });
  const span = allocSpan(backend, net.layout.floats);
  readState(backend, net, span, tensors);
  const learner = new Learner(backend, net, span);
  const settings = { seed: 0, smoothing: 0.1, drop: dropout, random_widths: 2, model_ema_decay: 0.997 };
  const taught = new Stage1(learner, { ...settings, bootstrap: "inplace" }, batch);
  const untaught = new Stage1(learner, { ...settings, bootstrap: "none" }, batch);
  const input = new Input(backend, net, batch);
  const labels = Int32Array.from({ length: batch }, (_, i) => i % net.spec.classes);
  const { height, width, channels } = net.spec.input;
  const floats = new Float32Array(new Uint8Array(readFileSync(images)).buffer);
  const pixels = input.write(floats.subarray(0, batch * height * width * channels), labels);
  const largest = { name: "largest", route: topSlot(net) };
  let steps = 0;
  const step = (stage, passes) => {
    const draws = { ...stage.draws(steps, batch), passes };
    const losses = stage.backward(pixels, input.labels, steps++, draws);
    learner.step(["decayed", "plain"], { lr: 0.01, momentum: 0.9, weightDecay: 1e-4 });
    return losses;
  };
  tasks = {
    full: () => step(untaught, [largest]),
    sandwich(widths) {
      const random = widths.map((route) => ({ name: "random", route }));
      const losses = step(taught, [largest, ...random, { name: "smallest", route: 0 }]);
      learner.ema(0.997);
      return losses;
    },
  };
  return {};
}

async function run({ task, widths, n }) {
  const [ms, losses] = [[], []];
  for (let i = 0; i < n; i++) {
    const start = performance.now();
    losses.push(tasks[task](widths));
    ms.push(performance.now() - start);
  }
  return { ms, losses, bytes: backend.arena.peak };
}

answer({ load, run });
