/** Gradients against differences: of stage I through whole networks, of stage II's losses, of MAdds. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { openBackend } from "../../src/backend/open.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { build } from "../../src/models/build.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { Philox } from "../../src/random/philox.js";
import type { GateConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { costLoss, gateCrossEntropy, gateLoss, probabilityLoss } from "../../src/train/gate-loss.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Stage1 } from "../../src/train/stage1.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";

const backend = await openBackend({ threads: 1 });
after(() => backend.dispose());

const N = 8;

/** Slope of `f` at 0, by central differences. */
const slope = (f: (x: number) => number, step: number) => (f(step) - f(-step)) / (2 * step);

/** Some parameters, spread over the network: the slope of stage I's loss along the gradient is the gradient's norm. */
function checkStage1(on: Backend, spec: ModelSpec, seed: number): void {
  const net = build(spec);
  const learner = new Learner(on, net, randomSpan(on, net, seed));
  const input = new Input(on, net, N);
  const labels = Int32Array.from({ length: N }, (_, i) => i % spec.classes);
  const images = input.write(randomImages(spec, N, seed), labels);
  // Labels for every pass: what a teacher says would not move with the weights.
  const config = { seed, smoothing: 0.1, drop: 0.2, bootstrap: "none", random_widths: 2, model_ema_decay: 0 } as const;
  const stage1 = new Stage1(learner, config, N);
  const draws = stage1.draws(0, N);
  const loss = () => {
    learner.refresh();
    const { largest, random = 0, smallest = 0 } = stage1.backward(images, input.labels, 0, draws);
    return largest + 2 * random + smallest;
  };
  loss();
  const trained = net.layout.params.filter((p) => p.role === "decayed" || p.role === "plain");
  const at = (span: number, index: number) => {
    const from = trained[index]!.in(span) / 4;
    return on.f32.subarray(from, from + trained[index]!.floats);
  };
  const gradients = trained.map((_, index) => Float64Array.from(at(learner.grads, index)));
  let checked = 0;
  for (let index = 0; index < trained.length; index += 3) {
    const gradient = gradients[index]!;
    const norm = Math.hypot(...gradient);
    if (norm < 1e-3) continue;
    const before = at(learner.student, index).slice();
    const along = (by: number) => {
      at(learner.student, index).set(before.map((w, i) => w + (by * gradient[i]!) / norm));
      const value = loss();
      at(learner.student, index).set(before);
      return value;
    };
    // Small, for ReLU's kinks; what float32 then leaves of the difference is the absolute part of the tolerance.
    const got = slope(along, 3e-4 / Math.max(norm, 1));
    checked++;
    assert.ok(Math.abs(got - norm) <= 0.03 * norm + 3e-3, `${trained[index]!.name}: slope ${got}, gradient ${norm}`);
  }
  assert.ok(checked >= 5, `${checked} parameters were checked`);
  stage1.dispose();
  input.dispose();
  learner.dispose();
  on.arena.free(learner.student);
}

describe("stage I's gradient is the slope of its loss", () => {
  for (const [seed, spec] of smallSpecs.entries()) {
    it(spec.description, () => checkStage1(backend, spec, seed));
  }
});

const gateConfig = (change: Partial<GateConfig>): GateConfig => ({ ...defaultConfig("ds_mbnet_32").gate, ...change });

describe("stage II's losses", () => {
  const count = 4;
  const images = 9;
  const random = new Philox(1, "gate");
  const set = {
    losses: Float32Array.from({ length: images * count }, () => random.float() * 3),
    correct: Uint8Array.from({ length: images * count }, () => random.int(2)),
  };
  const madds = [1.3e6, 1.7e6, 2.4e6, 3.1e6];
  const rows = [7, 2, 0, 8, 3];
  const scores = Float64Array.from({ length: rows.length * count }, () => random.normal());

  const cases: Record<string, Partial<GateConfig>> = {
    "try best": { sgs: "try_best" },
    "give up": { sgs: "give_up" },
    "no SGS": { sgs: "none" },
    "the task alone": { cost_weight: 0, sgs_weight: 0 },
    "the cost alone": { task_weight: 0, sgs: "none" },
    "a target above": { target_madds: 2.9e6, cost_weight: 3 },
    "a target below": { target_madds: 1.5e6, cost_weight: 3, task_weight: 0.3, sgs_weight: 2 },
  };
  for (const [name, change] of Object.entries(cases)) {
    it(`expectation: the gradient is the slope of the weighted sum, ${name}`, () => {
      const config = gateConfig(change);
      const total = (at: Float64Array) => {
        const { task, cost, sgs } = gateLoss(at, rows, set, madds, config, new Float64Array(at.length));
        return config.task_weight * task + config.cost_weight * cost + config.sgs_weight * sgs;
      };
      const gradient = new Float64Array(scores.length);
      gateLoss(scores, rows, set, madds, config, gradient);
      gradient.forEach((got, i) => {
        const moved = (by: number) => total(scores.map((s, j) => (j === i ? s + by : s)));
        assert.ok(Math.abs(got - slope(moved, 1e-5)) < 1e-8, `score ${i}`);
      });
      assert.ok(gradient.some((g) => Math.abs(g) > 1e-3));
    });
  }

  it("expectation: the task is the mean loss at the widths that the scores make likely", () => {
    // Scores this far apart are choices.
    const sure = Float64Array.from(scores, (_, i) => (i % count === Math.floor(i / count) % count ? 1e3 : 0));
    const { task, cost } = gateLoss(sure, rows, set, madds, gateConfig({}), new Float64Array(sure.length));
    const mean = (of: (row: number, k: number) => number) =>
      rows.reduce((sum, row, i) => sum + of(row, i % count) / rows.length, 0);
    assert.ok(Math.abs(task - mean((row, k) => set.losses[row * count + k]!)) < 1e-12);
    assert.ok(Math.abs(cost - (mean((_, k) => madds[k]!) / madds[3]!) ** 2) < 1e-12);
  });

  it("probability: the gradient is the slope of the mean cross-entropy, which is least at the true class's probability", () => {
    const loss = (at: Float64Array, gradient = new Float64Array(at.length)) =>
      probabilityLoss(at, rows, set, count, gradient);
    const gradient = new Float64Array(scores.length);
    loss(scores, gradient);
    gradient.forEach((got, i) => {
      const moved = (by: number) => loss(scores.map((s, j) => (j === i ? s + by : s)));
      assert.ok(Math.abs(got - slope(moved, 1e-5)) < 1e-8, `score ${i}`);
    });
    const best = scores.map((_, i) => {
      const p = Math.exp(-set.losses[rows[Math.floor(i / count)]! * count + (i % count)]!);
      return Math.log(p / (1 - p));
    });
    const there = new Float64Array(scores.length);
    assert.ok(loss(best, there) < loss(scores));
    assert.ok(there.every((g) => Math.abs(g) < 1e-12));
  });

  it("the cost's slope is its slope", () => {
    for (const target of [null, 2e6]) {
      const moved = (by: number) => costLoss(1.8e6 + by * 1e6, 3e6, target).value;
      assert.ok(Math.abs(costLoss(1.8e6, 3e6, target).slope * 1e6 - slope(moved, 1e-4)) < 1e-9);
    }
  });

  it("SGS: the gradient is the slope of the smoothed cross-entropy", () => {
    const targets = Int32Array.from([0, 3, 3, 0, 3]);
    const { gradient } = gateCrossEntropy(scores, targets, count, 0.1);
    gradient.forEach((got, i) => {
      const moved = (by: number) =>
        gateCrossEntropy(
          scores.map((s, j) => (j === i ? s + by : s)),
          targets,
          count,
          0.1,
        ).value;
      assert.ok(Math.abs(got - slope(moved, 1e-5)) < 1e-9);
    });
  });
});

describe("MAdds by the gates' choices", () => {
  for (const stale of [false, true]) {
    it(`the gradient is the slope, at soft choices too${stale ? ", as the published code counts" : ""}`, () => {
      for (const [seed, spec] of smallSpecs.entries()) {
        const net = build(spec);
        const random = new Philox(seed, "choices");
        const choices = net.gates.map(({ candidates }) => Float64Array.from(candidates, () => random.float()));
        const { madds, gradient } = gatedMadds(net, choices, stale);
        choices.forEach((choice, g) => {
          choice.forEach((_, k) => {
            const moved = (by: number) => {
              const at = choices.map((c, gate) => c.map((v, i) => (gate === g && i === k ? v + by : v)));
              return gatedMadds(net, at, stale).madds;
            };
            // At most quadratic in one choice, so differences are exact but for rounding.
            const want = slope(moved, 0.25);
            assert.ok(Math.abs(gradient[g]![k]! - want) <= 1e-9 * madds, `${spec.description}, gate ${g}, ${k}`);
          });
        });
      }
    });
  }
});
