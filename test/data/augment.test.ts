import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeAugment } from "../../src/data/augment.js";
import { ShapeError, UsageError } from "../../src/errors.js";
import { normaliseInto, normaliseTable } from "../../src/image/normalise.js";
import { centreCrop, type Pixels } from "../../src/image/pixels.js";
import { resize } from "../../src/image/resize.js";
import { Philox } from "../../src/random/philox.js";
import type { AugmentConfig } from "../../src/train/config.js";
import { noiseImage } from "../image/images.js";

const off: AugmentConfig = {
  crop_pad: 0,
  scale: null,
  ratio: [3 / 4, 4 / 3],
  hflip: 0,
  color_jitter: 0,
  aa: null,
  reprob: 0,
};
/** Bytes come out as they went in. */
const bytes = { mean: [0], std: [1 / 255] };
const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const target = { height: 8, width: 8 };

const run = (config: Partial<AugmentConfig>, pixels: Pixels, random: Philox, normalise = imagenet) => {
  const out = new Float32Array(8 * 8 * pixels.channels);
  makeAugment({ ...off, ...config }, target, normalise)(pixels, random, out, 0);
  return out;
};
const runBytes = (config: Partial<AugmentConfig>, pixels: Pixels, random: Philox) =>
  run(config, pixels, random, bytes).map(Math.round);

/** An 8x8 grey image that shows in each value where it comes from: 1 + y * 8 + x. */
const places: Pixels = { data: Uint8Array.from({ length: 64 }, (_, i) => i + 1), height: 8, width: 8, channels: 1 };

describe("augment", () => {
  const colour = noiseImage(8, 8, 3, new Philox(30));
  const everything: Partial<AugmentConfig> = {
    scale: [0.3, 1],
    hflip: 0.5,
    color_jitter: 0.2,
    aa: "rand-m9-mstd0.5-inc1",
    reprob: 0.5,
  };

  it("with all off only normalises", () => {
    const want = new Float32Array(192);
    normaliseInto(colour, normaliseTable(imagenet), want, 0);
    assert.deepEqual(run({}, colour, new Philox(0)), want);
  });

  it("depends on the stream alone, not on what was augmented before", () => {
    for (const config of [everything, { crop_pad: 2, hflip: 0.5 }]) {
      const augment = makeAugment({ ...off, ...config }, target, imagenet);
      const sample = (i: number) => {
        const out = new Float32Array(192);
        augment(colour, new Philox(1, i), out, 0);
        return out;
      };
      const forwards = Array.from({ length: 12 }, (_, i) => sample(i));
      const backwards = Array.from({ length: 12 }, (_, i) => sample(11 - i)).reverse();
      assert.deepEqual(forwards, backwards);
      assert.ok(new Set(forwards.map(String)).size > 6);
    }
  });

  it("never writes to the image, nor outside of its place in the batch", () => {
    const before = colour.data.slice();
    const augment = makeAugment({ ...off, ...everything }, target, imagenet);
    for (let i = 0; i < 40; i++) {
      const batch = new Float32Array(3 * 192).fill(77);
      augment(colour, new Philox(2, i), batch, 192);
      assert.ok(batch.subarray(0, 192).every((v) => v === 77) && batch.subarray(384).every((v) => v === 77));
      assert.ok(batch.subarray(192, 384).every((v) => v !== 77 && Number.isFinite(v)));
    }
    assert.deepEqual(colour.data, before);
  });

  it("pad and crop shows a shifted copy on black, every shift as often", () => {
    const counts = new Map<string, number>();
    const n = 5000;
    for (let i = 0; i < n; i++) {
      const out = runBytes({ crop_pad: 1 }, places, new Philox(3, i));
      const shift = out[27]! - 28; // the centre always shows some pixel
      const [dy, dx] = [Math.round(shift / 8), shift - 8 * Math.round(shift / 8)];
      for (let k = 0; k < 64; k++) {
        const [y, x] = [(k >> 3) + dy, (k & 7) + dx];
        assert.equal(out[k], y >= 0 && y < 8 && x >= 0 && x < 8 ? y * 8 + x + 1 : 0);
      }
      counts.set(`${dy} ${dx}`, (counts.get(`${dy} ${dx}`) ?? 0) + 1);
    }
    assert.equal(counts.size, 9);
    for (const [shift, count] of counts) {
      assert.ok(Math.abs(count - n / 9) < 5 * Math.sqrt((n / 9) * (8 / 9)), `${shift}: ${count}`);
    }
  });

  it("flips with its probability: never, sometimes, always", () => {
    const flips = (hflip: number) => {
      let count = 0;
      for (let i = 0; i < 2000; i++) if (runBytes({ hflip }, places, new Philox(4, i))[0] === 8) count++;
      return count;
    };
    assert.equal(flips(0), 0);
    assert.equal(flips(1), 2000);
    assert.ok(Math.abs(flips(0.25) - 500) < 5 * Math.sqrt(375));
  });

  it("erases with its probability", () => {
    const plain = run({}, colour, new Philox(0)).join();
    let erased = 0;
    for (let i = 0; i < 1000; i++) if (run({ reprob: 0.3 }, colour, new Philox(5, i)).join() !== plain) erased++;
    assert.ok(Math.abs(erased - 300) < 5 * Math.sqrt(210), `${erased}`);
  });

  it("without random-resized-crop an image of another size is scaled to cover and cropped", () => {
    const image = noiseImage(16, 24, 3, new Philox(6));
    const fitted = centreCrop(resize(image, 8, 12, "bilinear"), 8, 8);
    assert.deepEqual(run({}, image, new Philox(0)), run({}, fitted, new Philox(0)));
  });

  it("works on grey images with everything on", () => {
    for (let i = 0; i < 100; i++) {
      const out = run(everything, places, new Philox(7, i), { mean: [0.5], std: [0.5] });
      assert.ok(out.every(Number.isFinite));
    }
  });

  it("fills what geometry moves in with the mean", () => {
    const white: Pixels = { data: new Uint8Array(192).fill(255), height: 8, width: 8, channels: 3 };
    const seen = new Set<number>();
    for (let i = 0; i < 300; i++) {
      for (const v of run({ aa: "rand-m10-n1" }, white, new Philox(8, i))) seen.add(Math.round(v * 100));
    }
    assert.ok(
      [...seen].some((v) => Math.abs(v) <= 1),
      "no value near 0, the normalised mean",
    );
  });

  it("refuses images of other channels and outputs without room", () => {
    assert.throws(() => run({}, places, new Philox(0)), ShapeError);
    const augment = makeAugment(off, target, imagenet);
    assert.throws(() => augment(colour, new Philox(0), new Float32Array(191), 0), ShapeError);
    assert.throws(() => augment(colour, new Philox(0), new Float32Array(200), 9), ShapeError);
    assert.throws(() => augment(colour, new Philox(0), new Float32Array(200), -1), ShapeError);
  });

  const wrong: [Partial<AugmentConfig>, RegExp][] = [
    [{ crop_pad: -1 }, /augment\.crop_pad: expected a whole number/],
    [{ crop_pad: 1.5 }, /crop_pad/],
    [{ scale: [0.5, 0.2] }, /augment\.scale: .* got \[0.5,0.2\]/],
    [{ scale: [0, 1] }, /scale/],
    [{ scale: [0.5, 1.5] }, /scale/],
    [{ ratio: [0, 1] }, /ratio/],
    [{ hflip: 1.1 }, /augment\.hflip: expected a probability, got 1.1/],
    [{ color_jitter: -0.1 }, /color_jitter/],
    [{ reprob: Number.NaN }, /reprob/],
    [{ crop_pad: 4, scale: [0.2, 1] }, /crop_pad and scale .* exclude each other/],
    [{ aa: "autoaugment" }, /RandAugment "autoaugment": .*rand-m9/],
  ];
  for (const [config, message] of wrong) {
    it(`refuses ${JSON.stringify(config)}`, () => {
      assert.throws(
        () => makeAugment({ ...off, ...config }, target, imagenet),
        (error) => {
          assert.ok(error instanceof UsageError);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});
