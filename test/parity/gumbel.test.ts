/** Stage II in its masked form, where there is no reference: several gates, what it changes and where it leads. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
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
});
