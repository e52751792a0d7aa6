import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { rotate, shearY, translateX } from "../../../src/data/augment/affine.js";
import { brightness } from "../../../src/data/augment/enhance.js";
import { operations, parseRandAugment, randAugment } from "../../../src/data/augment/rand-augment.js";
import { invert, posterize, solarize, solarizeAdd } from "../../../src/data/augment/tone.js";
import { UsageError } from "../../../src/errors.js";
import { Philox } from "../../../src/random/philox.js";
import { noiseImage } from "../../image/images.js";

const random = new Philox(23);

describe("RandAugment notation", () => {
  const defaults = { magnitude: 10, layers: 2, magnitudeStd: 0, increasing: false };

  it("reads timm's strings", () => {
    assert.deepEqual(parseRandAugment("rand"), defaults);
    assert.deepEqual(parseRandAugment("rand-m9-mstd0.5"), { ...defaults, magnitude: 9, magnitudeStd: 0.5 });
    assert.deepEqual(parseRandAugment("rand-m9-n3-mstd101-inc1"), {
      magnitude: 9,
      layers: 3,
      magnitudeStd: 101,
      increasing: true,
    });
    assert.deepEqual(parseRandAugment("rand-inc1-m0"), { ...defaults, magnitude: 0, increasing: true });
    assert.equal(parseRandAugment("rand-inc0").increasing, false);
  });

  for (const text of [
    "",
    "augmix-m3",
    "random",
    "rand-",
    "rand-m11",
    "rand-m",
    "rand-n0",
    "rand-n1.5",
    "rand-w0",
    "rand-inc2",
    "rand-m9,n2",
    "Rand-m9",
    "rand-m-1",
  ]) {
    it(`refuses "${text}" and shows a valid one`, () => {
      assert.throws(
        () => parseRandAugment(text),
        (error) => {
          assert.ok(error instanceof UsageError);
          assert.match(error.message, /rand-m9-n2-mstd0\.5-inc1/);
          return true;
        },
      );
    });
  }
});

describe("RandAugment operations", () => {
  const names =
    "AutoContrast Brightness Color Contrast Equalize Invert Posterize Rotate Sharpness ShearX ShearY Solarize SolarizeAdd TranslateXRel TranslateYRel";
  const image = noiseImage(10, 12, 3, random);
  const sampling = { interpolation: "bilinear" as const, fill: [1, 2, 3] };
  const negative = { sign: (value: number) => -value, sampling: () => sampling };
  const positive = { ...negative, sign: (value: number) => value };

  it("both sets are timm's fifteen", () => {
    for (const set of Object.values(operations)) assert.deepEqual(Object.keys(set).sort(), names.split(" "));
  });

  it("levels become timm's arguments", () => {
    const { plain, increasing } = operations;
    assert.deepEqual(plain.Rotate!(image, 0.9, positive), rotate(image, 27, sampling));
    assert.deepEqual(plain.Rotate!(image, 0.9, negative), rotate(image, -27, sampling));
    assert.deepEqual(plain.ShearY!(image, 0.5, negative), shearY(image, -0.15, sampling));
    assert.deepEqual(plain.TranslateXRel!(image, 1, positive), translateX(image, 0.45, sampling));
    assert.deepEqual(plain.Posterize!(image, 0.9, positive), posterize(image, 3));
    assert.deepEqual(increasing.Posterize!(image, 0.9, positive), posterize(image, 1));
    assert.deepEqual(plain.Solarize!(image, 0.9, positive), solarize(image, 230));
    assert.deepEqual(increasing.Solarize!(image, 0.9, positive), solarize(image, 26));
    assert.deepEqual(plain.SolarizeAdd!(image, 0.9, positive), solarizeAdd(image, 99));
    assert.deepEqual(plain.Brightness!(image, 0.5, positive), brightness(image, 1));
    assert.deepEqual(plain.Brightness!(image, 1, positive), brightness(image, 1.9));
    assert.deepEqual(increasing.Brightness!(image, 1, negative), brightness(image, 0.1));
    assert.deepEqual(increasing.Brightness!(image, 1, positive), brightness(image, 1.9));
  });

  it("at level 0 the increasing set changes nothing, but for what has no level and Posterize, which keeps 4 bits", () => {
    for (const [name, operation] of Object.entries(operations.increasing)) {
      if (["AutoContrast", "Equalize", "Invert", "Posterize"].includes(name)) continue;
      assert.deepEqual(operation(image, 0, positive), image, name);
    }
    assert.deepEqual(operations.increasing.Posterize!(image, 0, positive), posterize(image, 4));
  });

  for (const [set, table] of Object.entries(operations)) {
    it(`${set}: every operation keeps size and channels, of colour and grey, and its input`, () => {
      for (const pixels of [image, noiseImage(9, 5, 1, random)]) {
        const before = pixels.data.slice();
        for (const [name, operation] of Object.entries(table)) {
          const out = operation(pixels, 0.9, negative);
          assert.deepEqual([out.height, out.width, out.channels], [pixels.height, pixels.width, pixels.channels], name);
          assert.equal(out.data.length, before.length, name);
          assert.deepEqual(pixels.data, before, name);
        }
      }
    });
  }
});

describe("RandAugment", () => {
  const config = parseRandAugment("rand-m9-n1");
  const image = noiseImage(6, 6, 3, new Philox(24));
  const augment = (i: number, set = config) => randAugment(image, set, [128, 128, 128], new Philox(25, i));

  it("the same stream gives the same image, another stream mostly another", () => {
    assert.deepEqual(augment(1), augment(1));
    const distinct = new Set(Array.from({ length: 60 }, (_, i) => augment(i).data.join()));
    assert.ok(distinct.size > 10, `${distinct.size}`);
  });

  it("one layer applies its operation half of the time, each of the fifteen as often", () => {
    const n = 3000;
    const inverted = invert(image).data.join();
    let unchanged = 0;
    let inversions = 0;
    for (let i = 0; i < n; i++) {
      const out = augment(i);
      if (out === image) unchanged++;
      if (out.data.join() === inverted) inversions++;
    }
    const within = (count: number, p: number) => Math.abs(count - n * p) < 5 * Math.sqrt(n * p * (1 - p));
    assert.ok(within(unchanged, 0.5), `${unchanged} unchanged`);
    assert.ok(within(inversions, 0.5 / 15), `${inversions} inverted`);
  });

  it("mstd spreads the strength around the magnitude and stays in range; above 100 it is uniform", () => {
    const shifts = (text: string) => {
      // Of a flat image only geometric operations show fill; count how wide TranslateX can get.
      const flat = { ...image, data: new Uint8Array(108).fill(200) };
      const set = parseRandAugment(text);
      return new Set(
        Array.from({ length: 1500 }, (_, i) => randAugment(flat, set, [0, 0, 0], new Philox(26, i)).data.join()),
      ).size;
    };
    assert.ok(shifts("rand-m5-n1") < shifts("rand-m5-n1-mstd0.5"));
    assert.ok(shifts("rand-m5-n1") < shifts("rand-m5-n1-mstd101"));
  });
});
