/** What each pass of stage I learns, for every kind of target: the losses it reports, against passes run one by one. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { Plan } from "../../src/engine/plan.js";
import { build, topSlot, walkNetwork } from "../../src/models/build.js";
import { type Route, startOf } from "../../src/nn/width.js";
import { crossEntropy, type Target } from "../../src/ops/loss.js";
import { softmax } from "../../src/ops/softmax.js";
import { Tape } from "../../src/ops/tape.js";
import type { Tensor } from "../../src/ops/tensor.js";
import { TrainExec } from "../../src/train/forward.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Stage1 } from "../../src/train/stage1.js";
import { backends } from "../support/backends.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";

const N = 4;
const SMOOTHING = 0.1;
const spec = smallSpecs[0]!;
const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

/** Mean of some rows of probabilities. */
const mean = (rows: readonly Float32Array[]) =>
  Float32Array.from(rows[0]!, (_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);

for (const { name, backend } of all) {
  const net = build(spec);
  const { classes } = spec;
  const learner = new Learner(backend, net, randomSpan(backend, net, 1));
  // Another network than the student, so that the two cannot be mistaken for each other.
  const other = randomSpan(backend, net, 2);
  backend.u8.copyWithin(learner.teacher, other, other + net.layout.floats * 4);
  const input = new Input(backend, net, N);
  const images = input.write(randomImages(spec, N, 3), Int32Array.of(0, 3, 1, 4));

  const probabilities = (logits: Float32Array): Float32Array =>
    Float32Array.from(
      Array.from({ length: N }, (_, i) => [...softmax(logits.subarray(i * classes, (i + 1) * classes))]).flat(),
    );

  /** Of the student in training, on a route of its own. */
  const student = <T>(route: Route, read: (tape: Tape, logits: Tensor) => T): T =>
    backend.arena.scope(() => {
      const tape = new Tape(backend, false);
      const exec = new TrainExec(tape, learner.weights, { momentum: () => 0, route });
      return read(tape, walkNetwork<Tensor>(net.steps, exec, images, startOf(route)));
    });
  const studentProbs = (route: Route) =>
    student(route, (_, logits) => probabilities(backend.f32.slice(logits.at / 4, logits.at / 4 + logits.size)));
  const studentLoss = (route: Route, target: Float32Array | null): number =>
    student(route, (tape, logits) => {
      const as: Target =
        target === null
          ? { labels: input.labels, smoothing: SMOOTHING }
          : { probs: backend.arena.alloc(target.byteLength) };
      if ("probs" in as) backend.f32.set(target!, as.probs / 4);
      return crossEntropy(tape, logits, as);
    });

  const teacher = (route: Route): Float32Array => {
    const plan = new Plan(backend, net, learner.teacher, {
      batch: N,
      slots: [topSlot(net), 0, 1, 2, 3],
      dynamic: false,
    });
    backend.u8.copyWithin(plan.input, images.at, images.at + images.size * 4);
    plan.run(N, route);
    const probs = probabilities(plan.readLogits(N).slice());
    plan.dispose();
    return probs;
  };

  describe(`${name}: what the passes learn`, () => {
    const top = topSlot(net);
    const modes = {
      none: () => ({ random: () => null, smallest: null }),
      inplace: () => ({ random: () => teacher(top), smallest: teacher(top) }),
      ensemble: (routes: Route[]) => ({ random: () => teacher(top), smallest: mean([top, ...routes].map(teacher)) }),
      distill: () => ({ random: () => studentProbs(top), smallest: studentProbs(top) }),
    } as const;
    for (const [bootstrap, targetsOf] of Object.entries(modes)) {
      it(`${bootstrap}`, () => {
        const config = { seed: 0, smoothing: SMOOTHING, drop: 0, random_widths: 2, model_ema_decay: 0.9 };
        const stage1 = new Stage1(learner, { ...config, bootstrap: bootstrap as keyof typeof modes }, N);
        const draws = stage1.draws(0, N);
        const got = stage1.backward(images, input.labels, 0, draws);
        stage1.dispose();
        const routes = draws.passes.filter((pass) => pass.name === "random").map((pass) => pass.route);
        const targets = targetsOf(routes);
        const close = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-5 * Math.abs(b), `${a}, expected ${b}`);
        close(got.largest, studentLoss(top, null));
        close(
          got.random!,
          routes.reduce<number>((sum, r) => sum + studentLoss(r, targets.random()), 0) / routes.length,
        );
        close(got.smallest!, studentLoss(0, targets.smallest));
      });
    }
  });
}
