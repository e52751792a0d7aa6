import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { colorJitter } from "../../../src/data/augment/color-jitter.js";
import { brightness, color, contrast, sharpness } from "../../../src/data/augment/enhance.js";
import { autoContrast, equalize, invert, posterize, solarize, solarizeAdd } from "../../../src/data/augment/tone.js";
import { type Pixels, toChannels } from "../../../src/image/pixels.js";
import { Philox } from "../../../src/random/philox.js";
import { noiseImage } from "../../image/images.js";

const random = new Philox(22);
const greys = (...values: number[]): Pixels => ({
  data: Uint8Array.from(values),
  height: 1,
  width: values.length,
  channels: 1,
});
const values = (pixels: Pixels) => [...pixels.data];

describe("tables", () => {
  const image = greys(0, 1, 100, 127, 128, 200, 255);

  it("invert twice is the identity", () => {
    assert.deepEqual(values(invert(image)), [255, 254, 155, 128, 127, 55, 0]);
    assert.deepEqual(invert(invert(image)), image);
  });

  it("posterize keeps the upper bits: 8 all, 0 none", () => {
    assert.deepEqual(values(posterize(image, 2)), [0, 0, 64, 64, 128, 192, 192]);
    assert.deepEqual(posterize(image, 8), image);
    assert.deepEqual(new Set(posterize(image, 0).data), new Set([0]));
  });

  it("solarize inverts from the threshold on: 256 nothing, 0 all", () => {
    assert.deepEqual(values(solarize(image, 128)), [0, 1, 100, 127, 127, 55, 0]);
    assert.deepEqual(solarize(image, 256), image);
    assert.deepEqual(solarize(image, 0), invert(image));
  });

  it("solarizeAdd brightens the dark half and clips", () => {
    assert.deepEqual(values(solarizeAdd(image, 100)), [100, 101, 200, 227, 128, 200, 255]);
    assert.deepEqual(values(solarizeAdd(greys(127), 200)), [255]);
  });

  it("autoContrast stretches each channel to 0..255 by itself and leaves a flat one", () => {
    assert.deepEqual(values(autoContrast(greys(50, 100, 150))), [0, 127, 255]);
    assert.deepEqual(values(autoContrast(greys(7, 7))), [7, 7]);
    const colour: Pixels = { data: Uint8Array.of(10, 50, 9, 20, 250, 9), height: 1, width: 2, channels: 3 };
    assert.deepEqual(values(autoContrast(colour)), [0, 0, 9, 255, 255, 9]);
  });

  it("equalize makes a dark ramp use all values, and leaves flat and tiny images", () => {
    const ramp = greys(...Array.from({ length: 1024 }, (_, i) => i >> 4));
    const equal = values(equalize(ramp));
    assert.equal(equal[0], 0);
    assert.equal(equal.at(-1), 255);
    assert.ok(equal.every((v, i) => i === 0 || v >= equal[i - 1]!));
    assert.deepEqual(equalize(greys(3, 3, 3)), greys(3, 3, 3));
    assert.deepEqual(equalize(greys(1, 200)), greys(1, 200));
  });
});

describe("enhancement", () => {
  const image = noiseImage(9, 7, 3, random);
  const all = { brightness, contrast, color, sharpness };

  for (const [name, enhance] of Object.entries(all)) {
    it(`${name} by 1 is the identity and never writes to its input`, () => {
      const before = image.data.slice();
      assert.deepEqual(enhance(image, 1), image);
      enhance(image, 0.3);
      assert.deepEqual(image.data, before);
    });
  }

  it("by 0: black, mean grey, grey, smooth", () => {
    assert.deepEqual(new Set(brightness(image, 0).data), new Set([0]));
    const grey = toChannels(image, 1);
    const mean = Math.floor(grey.data.reduce((a, b) => a + b, 0) / grey.data.length + 0.5);
    assert.deepEqual(new Set(contrast(image, 0).data), new Set([mean]));
    assert.deepEqual(color(image, 0), toChannels(grey, 3));
    const dot: Pixels = { data: Uint8Array.of(0, 0, 0, 0, 130, 0, 0, 0, 0), height: 3, width: 3, channels: 1 };
    assert.equal(sharpness(dot, 0).data[4], 50);
  });

  it("beyond 1 exaggerates and clips", () => {
    assert.deepEqual(values(brightness(greys(10, 100, 200), 1.5)), [15, 150, 255]);
    assert.deepEqual(values(contrast(greys(50, 150), 2)), [0, 200]);
    assert.deepEqual(values(contrast(greys(10, 150), 2)), [0, 220]);
  });

  it("color leaves grey images", () => {
    const grey = noiseImage(4, 4, 1, random);
    assert.deepEqual(color(grey, 0), grey);
    assert.deepEqual(color(toChannels(grey, 3), 1.7), toChannels(grey, 3));
  });
});

describe("colour jitter", () => {
  it("of strength 0 is the identity; the same stream gives the same image", () => {
    const image = noiseImage(6, 6, 3, random);
    assert.deepEqual(colorJitter(image, 0, new Philox(1)), image);
    assert.deepEqual(colorJitter(image, 0.4, new Philox(1)), colorJitter(image, 0.4, new Philox(1)));
    assert.notDeepEqual(colorJitter(image, 0.4, new Philox(1)), colorJitter(image, 0.4, new Philox(2)));
  });

  it("changes brightness by factors over the whole range, however strong", () => {
    const flat = greys(100, 100); // contrast and colour leave it, but for half a level of rounding
    const seen = Array.from({ length: 500 }, (_, i) => colorJitter(flat, 0.4, new Philox(2, i)).data[0]!);
    assert.ok(
      Math.min(...seen) >= 60 - 1 && Math.min(...seen) < 63 && Math.max(...seen) <= 140 && Math.max(...seen) > 137,
    );
    const strong = Array.from({ length: 500 }, (_, i) => colorJitter(flat, 2, new Philox(3, i)).data[0]!);
    assert.ok(Math.min(...strong) < 5 && Math.max(...strong) === 255);
  });
});
