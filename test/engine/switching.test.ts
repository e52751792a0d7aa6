/** A change of width costs nothing: no byte is allocated, none is copied but the logits. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { Plan } from "../../src/engine/plan.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { randomImages, randomSpan } from "../support/networks.js";

it("switching width copies and allocates 0 bytes", async () => {
  const backend = await openBackend({ device: "wasm", threads: 1 });
  const net = build(modelSpec("ds_mbnet_28"));
  const span = randomSpan(backend, net, 1);
  const plan = new Plan(backend, net, span, { batch: 1 });
  backend.f32.set(randomImages(net.spec, 1, 1), plan.input / 4);
  const weights = backend.u8.slice(span, span + net.layout.floats * 4);

  let allocated = 0;
  let copied = 0;
  const { arena, u8, f32 } = backend;
  const alloc = arena.alloc.bind(arena);
  arena.alloc = (bytes, keep) => {
    allocated += bytes;
    return alloc(bytes, keep);
  };
  const count = (view: Uint8Array | Float32Array) => {
    const copyWithin = view.copyWithin.bind(view);
    const set = view.set.bind(view);
    view.copyWithin = (target, start, end) => {
      copied += (end! - start) * view.BYTES_PER_ELEMENT;
      copyWithin(target, start, end);
      return view as never;
    };
    view.set = (source, offset) => {
      copied += source.length * view.BYTES_PER_ELEMENT;
      set(source, offset);
    };
  };
  count(u8);
  count(f32);

  const logits = net.spec.classes * 4;
  const answers = Array.from({ length: net.widths }, () => new Set<string>());
  for (let i = 0; i < 200; i++) {
    const width = (i * 5) % net.widths;
    plan.run(1, width);
    answers[width]!.add(f32.subarray(plan.logits / 4, plan.logits / 4 + net.spec.classes).join());
  }
  assert.deepEqual([allocated, copied], [0, 200 * logits]);
  assert.deepEqual(
    answers.map((set) => set.size),
    Array(net.widths).fill(1),
  );

  copied = 0;
  const { candidates } = net.gates[0]!;
  for (let i = 0; i < 200; i++) {
    const chosen = i % candidates.length;
    plan.setBias(
      0,
      candidates.map((_, k) => (k === chosen ? 1e30 : 0)), // the knob itself: a float for each candidate
    );
    assert.deepEqual(plan.runDynamic(1), [[candidates[chosen]]]);
  }
  assert.deepEqual([allocated, copied], [0, 200 * (logits + candidates.length * 4)]);
  assert.deepEqual(backend.u8.slice(span, span + net.layout.floats * 4), weights);
  backend.dispose();
});
