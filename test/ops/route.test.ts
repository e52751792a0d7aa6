/** `route`, the one record that moves control: it chooses the largest biased score and goes on at that choice's record. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { type Call, encode, RECORD_BYTES, RECORD_WORDS } from "../../src/backend/records.js";
import { backends } from "../support/backends.js";
import { draw, randomOf } from "../support/case.js";

const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

/** Runs a route over `scores`, then the branch of each choice k, which marks cell k and ends. Returns choice and marks. */
function route(backend: Backend, scores: number[], bias: number[] | null) {
  return backend.arena.scope(() => {
    const count = scores.length;
    const block = backend.arena.alloc(4 * 4 * 64);
    const records = backend.arena.alloc((1 + 2 * count) * RECORD_BYTES);
    const [scoresAt, biasAt, targets, marks] = [0, 1, 2, 3].map((part) => block + part * 256) as [
      number,
      number,
      number,
      number,
    ];
    const choice = backend.arena.alloc(4);

    backend.f32.set(scores, scoresAt / 4);
    if (bias) backend.f32.set(bias, biasAt / 4);
    backend.f32.fill(0, marks / 4, marks / 4 + count);
    backend.i32[choice / 4] = -1;
    const write = (index: number, call: Call) =>
      encode(backend.i32, backend.f32, records / 4 + index * RECORD_WORDS, call);
    write(0, { op: "route", scores: scoresAt, bias: bias ? biasAt : 0, choice, targets, count });
    for (let k = 0; k < count; k++) {
      const branch = 1 + 2 * (count - 1 - k); // targets go both forwards and backwards in k
      backend.i32[targets / 4 + k] = branch;
      write(branch, { op: "fill", x: marks + 4 * k, count: 1, value: 1 });
      write(branch + 1, { op: "end" });
    }
    backend.run(records, 1 + 2 * count, 1);
    return { choice: backend.i32[choice / 4]!, marks: [...backend.f32.slice(marks / 4, marks / 4 + count)] };
  });
}

const mark = (count: number, k: number) => Array.from({ length: count }, (_, at) => (at === k ? 1 : 0));

for (const { name, backend } of all) {
  describe(name, () => {
    it("route chooses the largest score plus bias and runs only that choice's records", () => {
      for (let count = 1; count <= 14; count++) {
        for (let seed = 0; seed < 10; seed++) {
          const random = randomOf("route", count, seed);
          const scores = draw(random, count);
          const bias = seed % 2 === 0 ? null : draw(random, count);
          const sums = scores.map((score, k) => score + (bias?.[k] ?? 0));
          const best = sums.indexOf(Math.max(...sums));
          const result = route(backend, [...scores], bias && [...bias]);
          assert.deepEqual(result, { choice: best, marks: mark(count, best) });
        }
      }
    });

    it("route takes the first of equal scores", () => {
      assert.equal(route(backend, [1, 3, 3, 2, 3], null).choice, 1);
      assert.equal(route(backend, [0, 0, 0, 0], null).choice, 0);
      assert.equal(route(backend, [2, 1, 0], [0, 1, 2]).choice, 0);
      assert.equal(route(backend, [-5, -2, -2], null).choice, 1);
    });

    it("records run in order up to the end or the count, whichever comes first", () => {
      backend.arena.scope(() => {
        const cell = backend.arena.alloc(4);
        const records = backend.arena.alloc(4 * RECORD_BYTES);
        const write = (index: number, call: Call) =>
          encode(backend.i32, backend.f32, records / 4 + index * RECORD_WORDS, call);
        write(0, { op: "fill", x: cell, count: 1, value: 1 });
        write(1, { op: "fill", x: cell, count: 1, value: 2 });
        write(2, { op: "end" });
        write(3, { op: "fill", x: cell, count: 1, value: 3 });
        for (const [count, want] of [
          [1, 1],
          [2, 2],
          [4, 2],
        ] as const) {
          backend.f32[cell / 4] = 0;
          backend.run(records, count);
          assert.equal(backend.f32[cell / 4], want);
        }
        backend.f32[cell / 4] = 0;
        backend.run(records, 0);
        assert.equal(backend.f32[cell / 4], 0);
      });
    });
  });
}
