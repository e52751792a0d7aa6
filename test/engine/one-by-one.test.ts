/** Where a plan takes images one after the other up to the gate: the bits of single calls, on every route. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { Plan } from "../../src/engine/plan.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { randomImages, randomSpan } from "../support/networks.js";

const N = 5;

const backend = await openBackend({ device: "wasm", threads: 1 });
after(() => backend.dispose());

/** Activations before the gate of 64 × 64 × 24 values. */
const spec: ModelSpec = { ...modelSpec("ds_mbnet_32"), input: { height: 64, width: 64, channels: 3 }, classes: 7 };
const net = build(spec);
const span = randomSpan(backend, net, 3);
const size = spec.input.height * spec.input.width * spec.input.channels;
const images = randomImages(spec, N, 3).map((value, i) => value + Math.floor(i / size)); // each of another brightness

/** Logits of `count` images from number `from` on, as `run` leaves them. */
function logits(plan: Plan, from: number, count: number, run: () => void): Float32Array {
  backend.f32.set(images.subarray(from * size, (from + count) * size), plan.input / 4);
  run();
  return backend.f32.slice(plan.logits / 4, plan.logits / 4 + count * spec.classes);
}

describe("a batch of large images", () => {
  const batch = new Plan(backend, net, span, { batch: 8 });
  const single = new Plan(backend, net, span, { batch: 1 });
  const oneByOne = (run: (plan: Plan) => void) =>
    Array.from({ length: N }, (_, i) => [...logits(single, i, 1, () => run(single))]).flat();

  it("gives the bits of single calls at fixed widths", () => {
    for (const slot of [0, 3, 5]) {
      const want = oneByOne((plan) => plan.run(1, slot));
      if (slot === 5) assert.equal(new Set(want.filter((_, i) => i % spec.classes === 0)).size, N, "images differ");
      assert.deepEqual([...logits(batch, 0, N, () => batch.run(N, slot))], want);
    }
  });

  it("gives the bits of single calls where the gate chooses", () => {
    // So that the choice hangs on what little tells one image from another.
    let scores: number[] = [];
    logits(single, 2, 1, () => (scores = [...single.gateScores(1)]));
    for (const plan of [batch, single])
      plan.setBias(
        0,
        scores.map((score) => -score),
      );
    const routes: number[][] = [];
    const want = oneByOne((plan) => routes.push(...plan.runDynamic(1)));
    let got: number[][] = [];
    assert.deepEqual([...logits(batch, 0, N, () => (got = batch.runDynamic(N)))], want);
    assert.deepEqual(got, routes);
    assert.ok(new Set(routes.map(String)).size > 1, "images take different routes");
  });

  it("lets its records run alone, as often as there are images, and writes nothing else", () => {
    // Nothing behind the gate needs as much memory as many images at once would before it.
    const narrow = new Plan(backend, net, span, { batch: 32, slots: [0], dynamic: false });
    const want = [...logits(narrow, 0, N, () => narrow.run(N, 0))];
    for (const { run } of narrow.records(0)) run(32);
    const { f32 } = backend;
    assert.deepEqual(
      [...f32.slice(narrow.logits / 4, narrow.logits / 4 + want.length)],
      want,
      "logits of the last run",
    );
    narrow.dispose();
  });

  it("keeps the gate's scores and features of every image", () => {
    const features = Array.from({ length: N }, (_, i) => {
      let read: Float32Array = new Float32Array();
      logits(single, i, 1, () => (read = single.gateFeatures(1)));
      return [...read];
    });
    let read: Float32Array = new Float32Array();
    logits(batch, 0, N, () => (read = batch.gateFeatures(N)));
    assert.deepEqual([...read], features.flat());
  });
});
