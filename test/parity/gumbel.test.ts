/** Stage II in its masked form, where there is no reference: several gates, what it changes and where it leads. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { build } from "../../src/models/build.js";
import type { ModelSpec } from "../../src/models/spec.js";
import type { GateConfig, TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Stage2Gumbel } from "../../src/train/stage2-gumbel.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";
import { floatsAt } from "../support/parity-networks.js";

const backend = await openBackend({ threads: 1 });
after(() => backend.dispose());

const N = 8;

/** Steps of stage II from random weights; returns what came of them. */
function run(spec: ModelSpec, steps: number, gate: Partial<GateConfig>, change: Partial<TrainConfig> = {}) {
  const net = build(spec);
  const learner = new Learner(backend, net, randomSpan(backend, net, 3));
  const input = new Input(backend, net, N);
  const base = defaultConfig("ds_mbnet_32");
  const config: TrainConfig = { ...base, batch_size: N, ...change, gate: { ...base.gate, sgs: "try_best", ...gate } };
  const batch = {
    images: randomImages(spec, N, 5),
    labels: Int32Array.from({ length: N }, (_, i) => i % spec.classes),
    indices: Int32Array.from({ length: N }, (_, i) => i),
    size: N,
  };
  const { gate: heads, plain, statistic } = net.layout.range;
  const frozen = () => [
    ...floatsAt(backend, learner.student, plain[1]),
    ...floatsAt(backend, learner.student + statistic[0] * 4, statistic[1] - statistic[0]),
  ];
  const before = frozen();
  const stage = new Stage2Gumbel(learner, config, input);
  const results = Array.from({ length: steps }, (_, i) => stage.step(batch, i, 0.1));
  assert.deepEqual(frozen(), before, "only the heads change");
  const weights = floatsAt(backend, learner.student + heads[0] * 4, statistic[0] - heads[0]);
  const gradients = net.gates.map(({ head }) => floatsAt(backend, head.weight.in(learner.grads), head.weight.floats));
  stage.dispose();
  input.dispose();
  learner.dispose();
  backend.arena.free(learner.student);
  return { results, weights, gradients, net };
}

/** Mean of the last few. */
const late = (values: number[]) => values.slice(-10).reduce((a, b) => a + b) / 10;

/** Its candidates cut groups: see the last test. */
const cut = smallSpecs.find(({ norm, residual }) => norm === "gn" && residual)!;

describe("stage II, masked", () => {
  const gated = smallSpecs.filter((spec) => spec !== cut);
  for (const spec of gated) {
    it(`${spec.description}: same seed, same bits; every head learns from every loss`, () => {
      for (const compat of ["paper", "published"] as const) {
        const one = run(spec, 2, {}, { compat });
        assert.deepEqual(run(spec, 2, {}, { compat }).weights, one.weights);
        assert.ok(one.weights.every(Number.isFinite));
      }
      for (const only of ["task_weight", "cost_weight", "sgs_weight"] as const) {
        const none = { task_weight: 0, cost_weight: 0, sgs_weight: 0 };
        const { gradients } = run(spec, 1, { ...none, [only]: 1 });
        for (const gradient of gradients)
          assert.ok(
            gradient.some((g) => g !== 0),
            only,
          );
      }
    });
  }

  for (const index of [0, 3, 5, 8, 9]) {
    const spec = smallSpecs[index]!;
    it(`${spec.description}: the cost alone leads to the slimmest, a target to the target`, () => {
      const cheap = run(spec, 50, { task_weight: 0, sgs: "none", cost_weight: 5 }).results.map((r) => r.madds);
      const floor = Math.min(...cheap);
      assert.ok(late(cheap) < floor + 0.25 * (Math.max(...cheap) - floor), `${late(cheap)} of ${floor}`);
      const dear = run(spec, 50, { task_weight: 0, sgs: "none", cost_weight: 20, target_madds: Math.max(...cheap) });
      assert.ok(late(dear.results.map((r) => r.madds)) > late(cheap));
    });

    it(`${spec.description}: SGS alone is learnt`, () => {
      const sgs = run(spec, 50, { task_weight: 0, cost_weight: 0, sgs: "try_best" }).results.map((r) => r.sgs);
      assert.ok(sgs.at(-1)! < 0.9 * sgs[0]!, `${sgs[0]} to ${sgs.at(-1)}`);
    });
  }

  it("refuses group norm where a candidate would cut a group", () => {
    assert.throws(() => run(cut, 1, {}), {
      code: "ERR_USAGE",
      message: /multiples of 8.*bn2 has 12 channels at width 0/,
    });
  });
});

describe("a table", () => {
  const residual: ModelSpec = smallSpecs.find((spec) => spec.residual && spec.norm === "bn")!;
  const stages = (change: (stage: ModelSpec["stages"][number], i: number) => ModelSpec["stages"][number]) => ({
    ...residual,
    stages: residual.stages.map(change),
  });

  it("with a later gate inside a residual block that adds its input as it is, is refused", () => {
    const spec = stages((stage, i) => (i === 2 ? { ...stage, gates: [0, 1] } : stage));
    assert.throws(() => build(spec), { code: "ERR_USAGE", message: /stage 2, block 1: its residual sum/ });
    build({ ...spec, residual: false });
  });

  it("whose residual sum would add one width to many, is refused", () => {
    const spec = stages((stage, i) =>
      i === 1 ? { ...stage, widths: [16] } : i === 2 ? { ...stage, stride: 1 } : stage,
    );
    assert.throws(() => build(spec), { code: "ERR_USAGE", message: /stage 2, block 0: its residual sum/ });
  });

  const bottlenecks: ModelSpec = smallSpecs.find(({ description }) => description.includes("four gates"))!;
  const broken: [what: string, change: Partial<ModelSpec["stages"][number]>, message: RegExp][] = [
    ["gates, but no squeeze", { squeeze: undefined as never }, /stage 1: expected squeeze, the channels/],
    ["half a channel", { squeeze: 2.5 }, /stage 1: expected squeeze to be a channel count, got 2.5/],
    ["widths that four does not divide", { widths: [16, 28, 42] }, /stage 1: expected multiples of 4 .* got 42/],
    ["a squeeze in another block", { block: "inverted" }, /stage 1: only bottleneck blocks have a squeeze/],
    [
      "a gate in a plain convolution",
      { block: "conv", squeeze: undefined as never },
      /stage 1: a conv block cannot hold/,
    ],
  ];
  for (const [what, change, message] of broken) {
    it(`of bottlenecks with ${what}, is refused`, () => {
      const stages = bottlenecks.stages.map((stage, i) => (i === 1 ? { ...stage, ...change } : stage));
      assert.throws(() => build({ ...bottlenecks, stages }), { code: "ERR_USAGE", message });
    });
  }

  it("of bottlenecks without sums, or before a block whose norms cannot take a wider stream, is refused", () => {
    assert.throws(() => build({ ...bottlenecks, residual: false }), /bottleneck blocks need residual: true, got false/);
    const after = { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [16, 28, 44] } as const;
    const spec = { ...bottlenecks, stages: [...bottlenecks.stages, { ...after, widths: [...after.widths] }] };
    assert.throws(() => build(spec), /stage 2, block 0: its input may be wider than the width in force/);
  });
});

describe("the cost of choices", () => {
  it("has the gradient that choosing otherwise would cost, where the residual stream keeps the wider", () => {
    const spec: ModelSpec = smallSpecs.find(({ description }) => description.includes("four gates"))!;
    const net = build(spec);
    const choices = (route: number[]) => route.map((k) => [0, 1, 2].map((j) => (j === k ? 1 : 0)));
    // The last gate's block ends the network: only the classifier and its pool read the stream that it may leave as it is.
    for (const [before, flat] of [
      [2, true],
      [0, false],
    ] as const) {
      const { gradient } = gatedMadds(net, choices([1, 1, before, 0]));
      const [own, read] = ownCost(spec);
      const got = gradient[3]!.map((g, k) => g - own(k));
      const stream = spec.stages[1]!.widths;
      const want = stream.map((c) => read * Math.max(c, stream[1]!, stream[before]!));
      for (let k = 1; k < 3; k++)
        assert.ok(Math.abs(got[k]! - got[0]! - (want[k]! - want[0]!)) < 1e-6, `${got} ${want}`);
      assert.equal(want[2] === want[0], flat);
    }
  });
});

/** By candidate, the slope of what the last block's convolutions cost at choice 0; and what a channel of the stream costs. */
function ownCost(spec: ModelSpec): [(k: number) => number, number] {
  const { widths, squeeze } = spec.stages[1]!;
  const pixels = 3 * 3; // 18 → 9 → pool 5 → stride 2: 3
  const inner = (k: number) => widths[k]! / 4;
  const own = (k: number) => pixels * (9 * squeeze! * inner(k) + inner(k) * widths[0]! + inner(0) * widths[k]!);
  return [own, pixels + spec.classes];
}
