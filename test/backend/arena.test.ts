import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Arena } from "../../src/backend/arena.js";
import { DsnetError, MemoryError } from "../../src/errors.js";

const LIMIT = 64 * 40;

/** The naive model: which 64-byte cells are taken. First fit by trying every place. */
class Model {
  readonly cells = new Array<boolean>(LIMIT / 64).fill(false);
  readonly sizes = new Map<number, number>();

  alloc(bytes: number): number | null {
    const size = Math.max(1, Math.ceil(bytes / 64));
    for (let at = 1; at + size < this.cells.length; at++) {
      if (this.cells.slice(at, at + size).includes(true)) continue;
      this.cells.fill(true, at, at + size);
      this.sizes.set(at * 64, size);
      return at * 64;
    }
    return null;
  }

  free(offset: number): void {
    this.cells.fill(false, offset / 64, offset / 64 + this.sizes.get(offset)!);
    this.sizes.delete(offset);
  }

  get inUse(): number {
    return this.cells.filter(Boolean).length * 64;
  }
}

describe("arena", () => {
  it("allocates and frees like first fit over single cells", () => {
    const action = fc.oneof(
      fc.record({ alloc: fc.nat(64 * 12) }),
      fc.record({ free: fc.nat(100) }), // the i-th live one
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
        const arena = new Arena(0, LIMIT);
        const model = new Model();
        let peak = 0;
        for (const step of actions) {
          if ("alloc" in step) {
            const expected = model.alloc(step.alloc);
            if (expected === null) assert.throws(() => arena.alloc(step.alloc), MemoryError);
            else assert.equal(arena.alloc(step.alloc), expected);
          } else if (model.sizes.size > 0) {
            const offset = [...model.sizes.keys()][step.free % model.sizes.size]!;
            model.free(offset);
            arena.free(offset);
          }
          peak = Math.max(peak, model.inUse);
          assert.equal(arena.inUse, model.inUse);
          assert.equal(arena.peak, peak);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("never hands out offset 0, aligns to 64 and leaves a guard of 64 bytes at the end", () => {
    const arena = new Arena(0, 64 * 4);
    assert.equal(arena.alloc(1), 64);
    assert.equal(arena.alloc(64), 128);
    assert.throws(() => arena.alloc(1), MemoryError);
    assert.equal(new Arena(1000, 10000).alloc(10), 1024);
  });

  it("says how much was asked for, is in use and there could be", () => {
    const arena = new Arena(0, 2 ** 20 * 8 + 128);
    arena.alloc(2 ** 20 * 6);
    assert.throws(
      () => arena.alloc(2 ** 20 * 4),
      (error) =>
        error instanceof DsnetError &&
        error.code === "ERR_MEMORY" &&
        /4\.0 MiB asked.* 6\.0 MiB of at most 8\.0 MiB/.test(error.message),
    );
  });

  it("frees what a scope allocated, at its end and when it throws, but not what was kept or freed inside", () => {
    const arena = new Arena(0, LIMIT);
    const outside = arena.alloc(64);
    let kept = 0;
    const result = arena.scope(() => {
      arena.alloc(64);
      kept = arena.alloc(64, true);
      arena.free(arena.alloc(100));
      assert.throws(() =>
        arena.scope(() => {
          arena.alloc(128);
          throw new Error("inside");
        }),
      );
      assert.equal(arena.inUse, 64 * 3);
      arena.free(outside);
      return "result";
    });
    assert.equal(result, "result");
    assert.equal(arena.inUse, 64);
    arena.free(kept);
    assert.equal(arena.inUse, 0);
    assert.equal(arena.alloc(LIMIT - 128), 64); // all one piece again
  });

  it("does not free twice a place that a scope freed and another took", () => {
    const arena = new Arena(0, LIMIT);
    let again = 0;
    arena.scope(() => {
      const first = arena.alloc(64);
      arena.free(first);
      again = arena.alloc(64, true);
      assert.equal(again, first);
    });
    assert.equal(arena.inUse, 64);
  });

  it("refuses to free what is not allocated, and sizes that are none", () => {
    const arena = new Arena(0, LIMIT);
    const offset = arena.alloc(64);
    arena.free(offset);
    assert.throws(() => arena.free(offset), RangeError);
    assert.throws(() => arena.alloc(-1), RangeError);
    assert.throws(() => arena.alloc(Number.NaN), RangeError);
  });

  it("asks for memory before it hands it out, guard included, and stays intact when there is none", () => {
    let usable = 256;
    const arena = new Arena(0, LIMIT, (end) => {
      if (end > 1024) return false;
      usable = Math.max(usable, end);
      return true;
    });
    const offset = arena.alloc(512);
    assert.ok(usable >= offset + 512 + 64);
    assert.throws(() => arena.alloc(512), MemoryError);
    assert.equal(arena.alloc(128), offset + 512);
  });
});
