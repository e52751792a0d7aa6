import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { auc } from "../../src/evaluate/auc.js";
import { envelopeAt, type StaticPoint, upperEnvelope } from "../../src/evaluate/envelope.js";
import { pairedInterval } from "../../src/evaluate/interval.js";
import { uniform } from "./build.js";

const points = (...pairs: [number, number][]): StaticPoint[] =>
  pairs.map(([madds, accuracy], width) => ({ width, madds, accuracy }));

const arbitraryPoints = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 100 })), { minLength: 1, maxLength: 14 })
  .map((steps) => {
    let madds = 0;
    return steps.map(([step, percent], width) => {
      madds += step;
      return { width, madds, accuracy: percent / 100 };
    });
  });

describe("static envelope", () => {
  it("leaves out points under a chord and interpolates linearly between its corners", () => {
    const corners = upperEnvelope(points([1, 0.5], [2, 0.55], [3, 0.9], [4, 0.91], [5, 0.95]));
    assert.deepEqual(
      corners.map((c) => c.width),
      [0, 2, 4],
    );
    const mixture = envelopeAt(corners, 2);
    assert.equal(mixture.accuracy, 0.7);
    assert.equal(mixture.weight, 0.5);
    assert.deepEqual([mixture.below.width, mixture.above.width], [0, 2]);
  });

  it("stays level past its highest point: nobody need spend the whole budget", () => {
    const corners = upperEnvelope(points([1, 0.5], [2, 0.9], [3, 0.8]));
    assert.equal(envelopeAt(corners, 2.5).accuracy, 0.9);
    assert.equal(envelopeAt(corners, 2.5).madds, 2);
    assert.equal(envelopeAt(corners, 99).accuracy, 0.9);
  });

  it("is the slimmest width below the slimmest width's cost", () => {
    const mixture = envelopeAt(upperEnvelope(points([10, 0.5], [20, 0.9])), 4);
    assert.equal(mixture.accuracy, 0.5);
    assert.equal(mixture.madds, 10);
  });

  it("is nowhere below a static point, nor below a mix of two", () => {
    fc.assert(
      fc.property(arbitraryPoints, fc.double({ min: 0, max: 1, noNaN: true }), (all, t) => {
        const corners = upperEnvelope(all);
        for (const a of all) {
          for (const b of all) {
            const madds = a.madds + t * (b.madds - a.madds);
            const accuracy = a.accuracy + t * (b.accuracy - a.accuracy);
            assert.ok(envelopeAt(corners, madds).accuracy >= accuracy - 1e-9);
          }
        }
      }),
      { seed: 1 },
    );
  });

  it("never costs more than asked, once the slimmest fits", () => {
    fc.assert(
      fc.property(arbitraryPoints, fc.double({ min: 0, max: 800, noNaN: true }), (all, more) => {
        const budget = all[0]!.madds + more;
        assert.ok(envelopeAt(upperEnvelope(all), budget).madds <= budget + 1e-9);
      }),
      { seed: 2 },
    );
  });
});

describe("gate AUC", () => {
  const bruteForce = (scores: Float32Array, positive: Uint8Array) => {
    let wins = 0;
    let pairs = 0;
    scores.forEach((s, i) => {
      scores.forEach((t, j) => {
        if (positive[i] !== 1 || positive[j] !== 0) return;
        pairs++;
        wins += s > t ? 1 : s === t ? 0.5 : 0;
      });
    });
    return pairs === 0 ? null : wins / pairs;
  };

  it("is 1 when sorted, 0 when reversed, one half when all scores tie", () => {
    const positive = Uint8Array.of(0, 0, 1, 1);
    assert.equal(auc(Float32Array.of(1, 2, 3, 4), positive), 1);
    assert.equal(auc(Float32Array.of(4, 3, 2, 1), positive), 0);
    assert.equal(auc(Float32Array.of(7, 7, 7, 7), positive), 0.5);
  });

  it("equals the brute-force count over all pairs, ties counting one half", () => {
    const sample = fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 1 }));
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 40 }), (samples) => {
        const scores = Float32Array.from(samples, ([score]) => score / 7);
        const positive = Uint8Array.from(samples, ([, is]) => is);
        const expected = bruteForce(scores, positive);
        const got = auc(scores, positive);
        if (expected === null || got === null) assert.equal(got, expected);
        else assert.ok(Math.abs(got - expected) < 1e-12);
      }),
      { seed: 3 },
    );
  });
});

describe("paired interval", () => {
  it("is Bonett and Price's for right-wrong pairs", () => {
    // 10 of 98 pairs favour the first net, 4 the second: (11 - 5)/100 ± z·sqrt((0.11 + 0.05 - 0.06²)/100).
    const d = new Float64Array(98);
    d.fill(1, 0, 10).fill(-1, 10, 14);
    const half = 1.959963984540054 * Math.sqrt((0.16 - 0.0036) / 100);
    const { difference, low, high } = pairedInterval(d);
    assert.equal(difference, 6 / 98);
    assert.ok(Math.abs(low - (0.06 - half)) < 1e-12);
    assert.ok(Math.abs(high - (0.06 + half)) < 1e-12);
  });

  it("keeps a width when the nets never disagree, and stays within -1 and 1", () => {
    const same = pairedInterval(new Float64Array(100));
    assert.ok(same.low < 0 && same.high > 0 && same.high < 0.03);
    const all = pairedInterval(new Float64Array(30).fill(1));
    assert.equal(all.difference, 1);
    assert.ok(all.low > 0 && all.high === 1);
  });

  it("covers the true difference in about 95 % of synthetic validations, rare disagreement included", () => {
    for (const [first, second] of [
      [0.15, 0.1],
      [0.02, 0.01],
      [0.3, 0.3],
    ] as const) {
      const next = uniform(7);
      let covered = 0;
      for (let repeat = 0; repeat < 1500; repeat++) {
        const d = Float64Array.from({ length: 250 }, () => {
          const u = next();
          return u < first ? 1 : u < first + second ? -1 : 0;
        });
        const { low, high } = pairedInterval(d);
        covered += Number(low <= first - second && first - second <= high);
      }
      assert.ok(covered / 1500 > 0.935 && covered / 1500 < 0.985, `${first}, ${second}: covered ${covered} of 1500`);
    }
  });
});
