import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { openBackend } from "../../src/backend/open.js";
import { Plan } from "../../src/engine/plan.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { gateLayers } from "../../src/nn/gate.js";
import { randomImages, randomSpan } from "../support/networks.js";

const N = 5;

describe("a plan", () => {
  let backend: Backend;
  before(async () => {
    backend = await openBackend({ device: "wasm", threads: 1 });
  });
  after(() => backend.dispose());

  it("keeps what the gate reads, whatever the size of the gate's hidden layer", () => {
    const features = (hidden: number, attention: number) => {
      const spec = { ...modelSpec("ds_mbnet_28"), attention, gate: { hidden, bias: true } };
      const net = build(spec);
      const plan = new Plan(backend, net, randomSpan(backend, net, 1), { batch: N });
      backend.f32.set(randomImages(spec, N, 2), plan.input / 4);
      return plan.gateFeatures(N);
    };
    for (const attention of [0, 0.25, 0.5, 1]) {
      const expected = features(0, attention);
      for (const hidden of [1, 8, 32, 40, 44, 48, 56, 100]) {
        assert.deepEqual(features(hidden, attention), expected, `${hidden} hidden, attention ${attention}`);
      }
    }
  });

  it("runs no gate where nothing is chosen, at a fixed width and in a cascade", () => {
    const spec = modelSpec("ds_mbnet_28"); // without attention: the gate's pool is its own
    const net = build(spec);
    const plan = new Plan(backend, net, randomSpan(backend, net, 1), { batch: 1 });
    backend.f32.set(randomImages(spec, 1, 2), plan.input / 4);
    const own = new Set(["global pool", ...gateLayers(net.gates[0]!).map(({ name }) => name)]);
    const calls = (run: () => void) => {
      const before = backend.run;
      let count = 0;
      backend.run = (at, records, n) => {
        count += records;
        before.call(backend, at, records, n);
      };
      run();
      backend.run = before;
      return count;
    };
    const records = plan.records(0);
    const gated = records.filter(({ name }) => own.has(name)).length;
    assert.equal(gated, 1 + 2 + 1); // its pool, its two layers, and the pool before the classifier
    assert.equal(
      calls(() => plan.run(1, 0)),
      records.length - 3,
    );
    assert.equal(
      calls(() => plan.runCascade(1, { wider: 5, threshold: 0 })),
      records.length - 3,
    );
    plan.dispose();
  });
});
