/** What a slice is, all ways to run it agree on. That it is a network of its own is in test/models/slice.test.ts. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { openBackend } from "../../src/backend/open.js";
import { Plan } from "../../src/engine/plan.js";
import { build, type Supernet, walkNetwork } from "../../src/models/build.js";
import type { ModelSpec } from "../../src/models/spec.js";
import type { Slot } from "../../src/nn/width.js";
import { Tape } from "../../src/ops/tape.js";
import { Tensor } from "../../src/ops/tensor.js";
import { Philox } from "../../src/random/philox.js";
import { TrainExec } from "../../src/train/forward.js";
import { Learner } from "../../src/train/learner.js";
import { walkMasked } from "../../src/train/masked.js";
import { checkGumbel } from "../../src/train/stage2-gumbel.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";
import { floatsAt } from "../support/parity-networks.js";

const all = [await openBackend({ threads: 1 }), await openBackend({ device: "wasm", threads: 1 })];
after(() => {
  for (const backend of all) backend.dispose();
});

const N = 3;

/** Whether masking is slicing: no candidate cuts a group of its group norms. */
function maskable(spec: ModelSpec): boolean {
  try {
    checkGumbel(build(spec));
    return true;
  } catch {
    return false;
  }
}

function slotsOf(net: Supernet): Slot[] {
  return [...Array.from({ length: net.widths }, (_, k) => k), "largest"];
}

/** Logits of n images at a slot, by a plan of its own. */
function logitsOf(backend: Backend, net: Supernet, span: number, images: Float32Array, n: number, slot: Slot) {
  const plan = new Plan(backend, net, span, { batch: n, slots: [slot], dynamic: false });
  backend.f32.set(images, plan.input / 4);
  plan.run(n, slot);
  const logits = floatsAt(backend, plan.logits, n * net.spec.classes);
  plan.dispose();
  assert.ok(logits.every(Number.isFinite));
  return logits;
}

function assertNear(got: Float32Array, want: Float32Array, relative: number, what: string): void {
  const scale = want.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const gap = got.reduce((most, v, i) => Math.max(most, Math.abs(v - want[i]!)), 0);
  assert.ok(gap <= relative * scale, `${what}: ${gap / scale} of the largest`);
}

for (const backend of all) {
  describe(`slices, ${backend.build}`, () => {
    for (const [seed, spec] of smallSpecs.entries()) {
      if (spec.norm === "gn") {
        it(`${spec.description}: training walk and plan agree at every width`, () => {
          const net = build(spec);
          const span = randomSpan(backend, net, seed);
          const images = randomImages(spec, N, seed);
          for (const slot of slotsOf(net)) {
            backend.arena.scope(() => {
              const { height, width, channels } = spec.input;
              const x = new Tensor(backend.arena.alloc(images.length * 4), N, height, width, channels, false);
              backend.f32.set(images, x.at / 4);
              const options = { momentum: () => 0, route: slot };
              const exec = new TrainExec(new Tape(backend, false), { span, grads: 0, transposed: null }, options);
              const { at, size } = walkNetwork<Tensor>(net.steps, exec, x, slot === "largest" ? slot : 0);
              const planned = logitsOf(backend, net, span, images, N, slot);
              assertNear(floatsAt(backend, at, size), planned, 1e-5, `width ${slot}`);
            });
          }
          backend.arena.free(span);
        });
      }

      if (maskable(spec)) {
        it(`${spec.description}: masked by random choices, the logits are those of each image's route`, () => {
          const net = build(spec);
          const learner = new Learner(backend, net, randomSpan(backend, net, seed));
          const count = 8;
          const images = randomImages(spec, count, seed);
          const plan = new Plan(backend, net, learner.student, { batch: count });
          backend.f32.set(images, plan.input / 4);
          const random = new Philox(seed, "choices");
          const picks = net.gates.map(({ candidates }) =>
            Array.from({ length: count }, () => random.int(candidates.length)),
          );
          const noise = net.gates.map(({ candidates: { length } }, g) =>
            Float32Array.from({ length: count * length }, (_, i) =>
              i % length === picks[g]![Math.floor(i / length)] ? 1e4 : 0,
            ),
          );
          backend.arena.scope(() => {
            const { logits } = walkMasked(new Tape(backend), net, learner.weights, plan, count, noise);
            const masked = floatsAt(backend, logits.at, logits.size);
            for (let i = 0; i < count; i++) {
              const route = net.gates.map(({ candidates }, g) => candidates[picks[g]![i]!]!);
              backend.f32.set(
                images.subarray((i * images.length) / count, ((i + 1) * images.length) / count),
                plan.input / 4,
              );
              plan.run(1, route);
              const { classes } = spec;
              const want = floatsAt(backend, plan.logits, classes);
              assertNear(masked.subarray(i * classes, (i + 1) * classes), want, 2e-5, `image ${i}, ${route}`);
            }
          });
          plan.dispose();
          backend.arena.free(learner.student);
          learner.dispose();
        });

        it(`${spec.description}: masked by a choice, the logits are those of the width chosen`, () => {
          const net = build(spec);
          const learner = new Learner(backend, net, randomSpan(backend, net, seed));
          const images = randomImages(spec, N, seed);
          const plan = new Plan(backend, net, learner.student, { batch: N });
          backend.f32.set(images, plan.input / 4);
          const { candidates } = net.gates[0]!;
          candidates.forEach((slot, k) => {
            // Noise that leaves the scores no say.
            const noise = net.gates.map(() =>
              Float32Array.from({ length: N * candidates.length }, (_, i) => (i % candidates.length === k ? 1e4 : 0)),
            );
            backend.arena.scope(() => {
              const { logits, decisions } = walkMasked(new Tape(backend), net, learner.weights, plan, N, noise);
              for (const { picked } of decisions) assert.ok(picked.every((p) => p === k));
              const sliced = logitsOf(backend, net, learner.student, images, N, slot);
              assertNear(floatsAt(backend, logits.at, logits.size), sliced, 2e-5, `width ${slot}`);
            });
          });
          plan.dispose();
          backend.arena.free(learner.student);
          learner.dispose();
        });
      }
    }
  });
}
