import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CachedDataset } from "../../src/data/cached.js";
import { type Dataset, MemoryDataset, sample, split, subset } from "../../src/data/dataset.js";
import { DataError, UsageError } from "../../src/errors.js";
import type { Pixels } from "../../src/image/pixels.js";
import { patternBytes } from "./support.js";

/** Images of 2×2 grey, one a label. */
function memory(labels: number[], classes = 3): MemoryDataset {
  return new MemoryDataset({
    name: "toy",
    data: Uint8Array.from({ length: labels.length * 4 }, (_, i) => i & 0xff),
    height: 2,
    width: 2,
    channels: 1,
    labels: Int32Array.from(labels),
    classNames: Array.from({ length: classes }, (_, k) => String(k)),
  });
}

const first = async (dataset: Dataset, i: number) => (await dataset.pixels(i)).data[0]! / 4;

describe("MemoryDataset", () => {
  it("gives views of one block of shared memory", () => {
    const dataset = memory([0, 1, 2]);
    const { data, height, width, channels } = dataset.pixels(2);
    assert.deepEqual([[...data], height, width, channels], [[8, 9, 10, 11], 2, 2, 1]);
    assert.equal(data.buffer, dataset.data.buffer);
    assert.ok(data.buffer instanceof SharedArrayBuffer);
  });

  it("refuses a label without class and another number of images than labels", () => {
    assert.throws(
      () => memory([0, 1, 3]),
      (e) => e instanceof DataError && /image 2 has label 3, but there are 3 classes \(0 to 2\)/.test(e.message),
    );
    assert.throws(() => memory([0, -1]), DataError);
    assert.throws(
      () => new MemoryDataset({ ...memory([0, 1, 2]), height: 2, width: 2, labels: Int32Array.of(0, 1), name: "toy" }),
      (e) =>
        e instanceof DataError && /2 labels need 2 images of 4 bytes .* got 12 bytes, that is 3 images/.test(e.message),
    );
  });
});

describe("subset", () => {
  it("keeps the order of its indices, images and labels together, also of a subset", async () => {
    const part = subset(subset(memory([0, 1, 2, 0, 1]), [4, 2, 0]), [2, 0]);
    assert.deepEqual([...part.labels], [0, 1]);
    assert.equal(await first(part, 0), 0);
    assert.equal(await first(part, 1), 4);
    assert.equal(part.describe(1), "toy, image 4");
  });

  it("refuses an index that is not there", () => {
    assert.throws(() => subset(memory([0, 1]), [0, 2]), UsageError);
    assert.throws(() => subset(memory([0, 1]), [-1]), UsageError);
  });
});

describe("sample", () => {
  it("is fixed by the seed, and a smaller one is part of a larger one", async () => {
    const all = memory(Array.from({ length: 30 }, (_, i) => i % 3));
    const of = async (n: number, seed: number) => {
      const part = sample(all, n, seed);
      return Promise.all(Array.from({ length: n }, (_, i) => first(part, i)));
    };
    const ten = await of(10, 5);
    assert.deepEqual(ten, await of(10, 5));
    assert.deepEqual(ten.slice(0, 4), await of(4, 5));
    assert.notDeepEqual(ten, await of(10, 6));
    assert.equal(new Set(ten).size, 10);
    for (const n of [0, 31, 1.5]) assert.throws(() => sample(all, n, 0), UsageError);
  });
});

describe("split", () => {
  it("takes the rounded share of every class; the parts are disjoint and together the whole", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(2), { minLength: 20, maxLength: 80 }),
        fc.double({ min: 0.1, max: 0.9, noNaN: true }),
        fc.nat(1000),
        (labels, share, seed) => {
          const { kept, heldOut } = split(memory(labels), share, seed);
          const ids = (part: Dataset) => Array.from({ length: part.length }, (_, i) => part.describe(i));
          assert.equal(new Set([...ids(kept), ...ids(heldOut)]).size, labels.length);
          assert.equal(kept.length + heldOut.length, labels.length);
          for (const k of [0, 1, 2]) {
            const count = labels.filter((label) => label === k).length;
            assert.equal(heldOut.labels.filter((label) => label === k).length, Math.round(share * count));
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it("is the same for the same seed, another for another", () => {
    const all = memory(Array.from({ length: 60 }, (_, i) => i % 3));
    const ids = (seed: number) => {
      const { heldOut } = split(all, 0.3, seed);
      return Array.from({ length: heldOut.length }, (_, i) => heldOut.describe(i));
    };
    assert.deepEqual(ids(1), ids(1));
    assert.notDeepEqual(ids(1), ids(2));
  });

  it("refuses shares outside (0, 1) and parts that would be empty", () => {
    for (const share of [0, 1, -0.1, Number.NaN]) assert.throws(() => split(memory([0, 1]), share, 0), UsageError);
    assert.throws(() => split(memory([0, 1, 2]), 0.1, 0), DataError);
  });
});

describe("CachedDataset", () => {
  /** Image `i` is 2×2, but image 1 is 3×3. Counts how often each is asked for. */
  function counting(): Dataset & { asked: number[] } {
    const asked = [0, 0, 0];
    return {
      ...{ name: "toy", length: 3, labels: Int32Array.of(0, 0, 0), classNames: ["a"], channels: 3, size: null, asked },
      pixels: async (i: number): Promise<Pixels> => {
        asked[i]!++;
        const side = i === 1 ? 3 : 2;
        return { data: patternBytes(i, side * side * 3), height: side, width: side, channels: 3 };
      },
      describe: String,
    };
  }

  it("asks once for images of its size and passes others through", async () => {
    const base = counting();
    const cached = new CachedDataset(base, { height: 2, width: 2 });
    for (let round = 0; round < 3; round++) {
      for (const i of [0, 1, 2]) assert.deepEqual(await cached.pixels(i), await counting().pixels(i));
    }
    assert.deepEqual(base.asked, [1, 3, 1]);
  });

  it("serves from another cache's memory", async () => {
    const one = new CachedDataset(counting(), { height: 2, width: 2 });
    await one.pixels(2);
    const base = counting();
    const two = new CachedDataset(base, { height: 2, width: 2 }, one.store, one.filled);
    assert.deepEqual(await two.pixels(2), await counting().pixels(2));
    assert.deepEqual(base.asked, [0, 0, 0]);
  });
});
