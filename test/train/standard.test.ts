/** The slimming head learns on standardised features and reads raw ones. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Philox } from "../../src/random/philox.js";
import type { GateSet } from "../../src/train/gate-set.js";
import { fold, type HeadLayer, headScores, standardised, standardOf } from "../../src/train/stage2-cached.js";

const images = 50;
const random = new Philox(3, "features");
/** Feature 0 is large, 1 small, 2 constant, 3 dead but for one image. */
const set: GateSet = {
  features: Float32Array.from(
    { length: images * 4 },
    (_, i) => [1000 + 300 * random.normal(), 0.5 * random.normal(), 7, i === 3 ? 1e-6 : 0][i % 4]!,
  ),
  width: 4,
  images,
  clean: images,
  losses: new Float32Array(),
  correct: new Uint8Array(),
};

const headOf = (bias: boolean): HeadLayer => ({
  weight: Float32Array.from({ length: 8 }, () => random.normal()),
  bias: bias ? Float32Array.of(0.5, -1) : null,
  weightMomentum: new Float32Array(8),
  biasMomentum: bias ? new Float32Array(2) : null,
  out: 2,
  in: 4,
});

describe("standardised features", () => {
  it("have mean 0 and deviation 1, and 0 throughout where they hardly differ", () => {
    const { features } = standardised(set, standardOf(set, true));
    for (const at of [0, 1]) {
      const values = Array.from({ length: images }, (_, i) => features[i * 4 + at]!);
      assert.ok(Math.abs(values.reduce((a, b) => a + b, 0)) < 1e-3 * images);
      assert.ok(Math.abs(values.reduce((sum, x) => sum + x * x, 0) / images - 1) < 1e-3);
    }
    assert.ok(features.every((x, i) => i % 4 < 2 || x === 0));
  });

  for (const bias of [true, false]) {
    it(`a head ${bias ? "with" : "without"} a bias scores raw features as it did these, with no weight on constant ones`, () => {
      const standard = standardOf(set, bias);
      const head = headOf(bias);
      const before = headScores([head], standardised(set, standard), "expectation");
      fold(head, standard);
      const after = headScores([head], set, "expectation");
      before.forEach((score, i) => {
        assert.ok(Math.abs(score - after[i]!) < 1e-3, `${score} became ${after[i]}`);
      });
      for (const o of [0, 1]) assert.ok(head.weight[o * 4 + 3] === 0);
    });
  }
});
