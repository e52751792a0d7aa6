import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UsageError } from "../../src/errors.js";
import { Philox, philox4x32 } from "../../src/random/philox.js";

const ALL = 0xffffffff;
const hex = (words: Uint32Array) => Array.from(words, (w) => w.toString(16).padStart(8, "0")).join(" ");

const draw = (random: Philox, count: number) => Array.from({ length: count }, () => random.uint32());
const first = (...name: ConstructorParameters<typeof Philox>) => draw(new Philox(...name), 8);

/** Chi-square of counts against equal shares; its mean is bins - 1, its standard deviation sqrt(2 (bins - 1)). */
function chiSquare(counts: number[]): number {
  const expected = counts.reduce((a, b) => a + b) / counts.length;
  return counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
}

/** Within five standard deviations of what chance gives. */
function assertUniform(counts: number[]): void {
  const bins = counts.length - 1;
  assert.ok(Math.abs(chiSquare(counts) - bins) < 5 * Math.sqrt(2 * bins), `counts ${counts}`);
}

describe("philox4x32-10", () => {
  // Known answers published with Random123, the authors' implementation.
  const known: [number[], number[], string][] = [
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[ALL, ALL, ALL, ALL], [ALL, ALL], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"],
  ];
  for (const [[c0, c1, c2, c3], [k0, k1], want] of known) {
    it(`gives ${want}`, () => {
      const out = new Uint32Array(4);
      philox4x32(c0!, c1!, c2!, c3!, k0!, k1!, out);
      assert.equal(hex(out), want);
    });
  }
});

describe("Philox streams", () => {
  it("the same name gives the same stream, in any order of use", () => {
    const a = new Philox(1, 2, 3, "augment");
    const b = new Philox(1, 2, 4, "augment");
    const mixed = [a, b, b, a, a, b].map((stream) => stream.uint32());
    assert.deepEqual([mixed[0], mixed[3], mixed[4]], first(1, 2, 3, "augment").slice(0, 3));
    assert.deepEqual([mixed[1], mixed[2], mixed[5]], first(1, 2, 4, "augment").slice(0, 3));
  });

  it("streams stay what they were in the first release", () => {
    // Recorded: a change here would change every training run.
    assert.equal(hex(Uint32Array.from(first(0).slice(0, 4))), "d0a3f906 3d9f282e db8a7e4f 29454a28");
    assert.equal(
      hex(Uint32Array.from(first(42, 3, 49_999, "augment").slice(0, 4))),
      "6f53e276 1e078590 18683591 923da933",
    );
  });

  it("names that differ in anything, also in how they are cut, give different streams", () => {
    const names: [number, ...(number | string)[]][] = [
      [0],
      [1],
      [2 ** 32],
      [2 ** 53 - 1],
      [0, 0],
      [0, 1],
      [1, 0],
      [0, 2 ** 32],
      [0, ""],
      [0, "", ""],
      [0, "1"],
      [0, "a"],
      [0, "ab"],
      [0, "a", "b"],
      [0, "b", "a"],
      [0, "a\0"],
      [0, "abcd"],
      [0, "abcde"],
      [0, "abcd", "e"],
      [0, "ä"],
      [0, "a", 1],
      [0, 1, "a"],
      [0, 0, 0],
    ];
    assert.equal(new Set(names.map((name) => first(...name).join())).size, names.length);
  });

  it("a stream shares no word with the streams one part longer", () => {
    const parent = draw(new Philox(5), 400);
    const children = [0, 1, 2, 3].flatMap((part) => draw(new Philox(5, part), 400));
    assert.ok(!children.some((word) => parent.includes(word)));
  });

  it("first numbers of neighbouring streams are uniform and uncorrelated", () => {
    const counts = new Array(16).fill(0);
    let product = 0;
    let before = 0;
    const n = 40_000;
    for (let sample = 0; sample < n; sample++) {
      const value = new Philox(7, Math.trunc(sample / 200), sample % 200, "crop").float();
      counts[Math.trunc(value * 16)]++;
      product += (value - 0.5) * (before - 0.5);
      before = value;
    }
    assertUniform(counts);
    const correlation = (product / n) * 12;
    assert.ok(Math.abs(correlation) < 5 / Math.sqrt(n), `correlation ${correlation}`);
  });

  it("changing one bit of a part changes half of the output's bits", () => {
    let changed = 0;
    for (let bit = 0; bit < 32; bit++) {
      const a = first(3, 0x1234567);
      const b = first(3, (0x1234567 ^ (1 << bit)) >>> 0);
      a.forEach((word, i) => {
        for (let x = (word ^ b[i]!) >>> 0; x > 0; x >>>= 1) changed += x & 1;
      });
    }
    const bits = 32 * 8 * 32;
    assert.ok(Math.abs(changed - bits / 2) < 5 * Math.sqrt(bits / 4), `${changed} of ${bits}`);
  });

  for (const part of [-1, 1.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY]) {
    it(`refuses ${part} as seed and as part`, () => {
      assert.throws(() => new Philox(part), UsageError);
      assert.throws(() => new Philox(0, part), UsageError);
    });
  }
});

describe("Philox distributions", () => {
  it("every bit of uint32 is set half of the time", () => {
    const words = draw(new Philox(11), 20_000);
    for (let bit = 0; bit < 32; bit++) {
      const set = words.filter((word) => (word >>> bit) & 1).length;
      assert.ok(Math.abs(set - 10_000) < 5 * Math.sqrt(5000), `bit ${bit}: ${set}`);
    }
  });

  it("float is uniform in [0, 1) and exact as float32", () => {
    const random = new Philox(12);
    const counts = new Array(20).fill(0);
    for (let i = 0; i < 40_000; i++) {
      const value = random.float();
      assert.ok(value >= 0 && value < 1 && Math.fround(value) === value);
      counts[Math.trunc(value * 20)]++;
    }
    assertUniform(counts);
  });

  it("normal has mean 0, variance 1, no skew, kurtosis 3, and independent pairs", () => {
    const random = new Philox(13);
    const n = 100_000;
    const moments = [0, 0, 0, 0];
    let pairs = 0;
    let before = 0;
    for (let i = 0; i < n; i++) {
      const value = random.normal();
      moments.forEach((_, k) => {
        moments[k]! += value ** (k + 1) / n;
      });
      pairs += (value * before) / n;
      before = value;
    }
    // Five standard errors: the k-th moment's variance is E[x^2k] - E[x^k]^2 = 1, 2, 15, 96.
    [0, 1, 0, 3].forEach((want, k) => {
      const error = 5 * Math.sqrt([1, 2, 15, 96][k]! / n);
      assert.ok(Math.abs(moments[k]! - want) < error, `moment ${k + 1}: ${moments[k]}`);
    });
    assert.ok(Math.abs(pairs) < 5 / Math.sqrt(n), `pairs ${pairs}`);
  });

  it("int is uniform, also where the remainder of 2^32 is large", () => {
    const random = new Philox(14);
    const seven = new Array(7).fill(0);
    for (let i = 0; i < 21_000; i++) seven[random.int(7)]++;
    assertUniform(seven);
    const n = 3 * 2 ** 30; // a plain remainder would give the lowest third twice as often
    const thirds = [0, 0, 0];
    for (let i = 0; i < 9000; i++) thirds[Math.trunc((random.int(n) / n) * 3)]!++;
    assertUniform(thirds);
  });

  it("int reaches its bounds and refuses the rest", () => {
    const random = new Philox(15);
    assert.equal(random.int(1), 0);
    assert.ok(random.int(2 ** 32) < 2 ** 32);
    for (const n of [0, -1, 2.5, 2 ** 32 + 1, Number.NaN]) assert.throws(() => random.int(n), UsageError);
  });

  it("uniform stays between its bounds", () => {
    const random = new Philox(16);
    const values = Array.from({ length: 1000 }, () => random.uniform(-2, 3));
    assert.ok(values.every((v) => v >= -2 && v < 3));
    assert.ok(Math.min(...values) < -1.9 && Math.max(...values) > 2.9);
  });

  it("shuffle makes every order equally often, of arrays and typed arrays", () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = i % 2 === 0 ? [0, 1, 2] : Int32Array.of(0, 1, 2);
      new Philox(17, i).shuffle(order as number[]);
      counts.set(order.join(), (counts.get(order.join()) ?? 0) + 1);
    }
    assert.equal(counts.size, 6);
    assertUniform([...counts.values()]);
  });
});
