import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { affine, rotate, shearX, shearY, translateX, translateY } from "../../../src/data/augment/affine.js";
import { cropFlip } from "../../../src/data/augment/crop-flip.js";
import { randomBox, randomResizedCrop } from "../../../src/data/augment/random-resized-crop.js";
import { allocPixels, crop, type Pixels } from "../../../src/image/pixels.js";
import { Philox } from "../../../src/random/philox.js";
import { noiseImage } from "../../image/images.js";

const random = new Philox(21);

function cropped(
  pixels: Pixels,
  top: number,
  left: number,
  flip: boolean,
  height = pixels.height,
  width = pixels.width,
) {
  const out = allocPixels(height, width, pixels.channels);
  out.data.fill(99); // must all be written
  cropFlip(pixels, top, left, flip, out);
  return out;
}

describe("crop and flip", () => {
  const image: Pixels = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), height: 2, width: 3, channels: 1 };

  it("shows zeros outside of the image", () => {
    assert.deepEqual([...cropped(image, 1, -1, false).data], [0, 4, 5, 0, 0, 0]);
    assert.deepEqual([...cropped(image, -1, 2, false).data], [0, 0, 0, 3, 0, 0]);
  });

  it("flips what it cut out", () => {
    assert.deepEqual([...cropped(image, 0, 0, true).data], [3, 2, 1, 6, 5, 4]);
    assert.deepEqual([...cropped(image, 1, -1, true).data], [5, 4, 0, 0, 0, 0]);
  });

  it("keeps the channels of a pixel together; flipping twice is the identity", () => {
    const colour = noiseImage(5, 7, 3, random);
    const flipped = cropped(colour, 0, 0, true);
    assert.deepEqual([...flipped.data.subarray(0, 3)], [...colour.data.subarray(18, 21)]);
    assert.deepEqual(cropped(flipped, 0, 0, true), colour);
    assert.deepEqual(cropped(colour, 0, 0, false), colour);
  });

  it("inside of the image it is crop", () => {
    const colour = noiseImage(8, 9, 3, random);
    assert.deepEqual(cropped(colour, 2, 3, false, 4, 5), crop(colour, 2, 3, 4, 5));
  });
});

describe("random-resized-crop", () => {
  it("boxes lie inside; area and aspect are in range up to rounding to pixels", () => {
    for (let i = 0; i < 2000; i++) {
      const { top, left, height, width } = randomBox(200, 300, [0.08, 1], [3 / 4, 4 / 3], random);
      assert.ok(top >= 0 && left >= 0 && top + height <= 200 && left + width <= 300);
      assert.ok(height * width > 0.075 * 200 * 300);
      assert.ok(width / height > 0.73 && width / height < 1.36, `${width}x${height}`);
    }
  });

  it("area is uniform in the range where every box fits, and all places occur", () => {
    const areas: number[] = [];
    const tops = new Set<number>();
    for (let i = 0; i < 4000; i++) {
      const { top, height, width } = randomBox(100, 100, [0.2, 0.5], [0.9, 1.1], random);
      areas.push((height * width) / 10_000);
      tops.add(top);
    }
    const mean = areas.reduce((a, b) => a + b) / areas.length;
    assert.ok(Math.abs(mean - 0.35) < 0.01, `mean ${mean}`);
    assert.ok(areas.filter((a) => a < 0.275).length > 800 && areas.filter((a) => a > 0.425).length > 800);
    assert.ok(tops.size > 45);
  });

  it("an image too long for any box gives the largest allowed centred one", () => {
    const fallback = (height: number, width: number) => randomBox(height, width, [0.9, 1], [3 / 4, 4 / 3], random);
    assert.deepEqual(fallback(30, 300), { top: 0, left: 130, height: 30, width: 40 });
    assert.deepEqual(fallback(300, 30), { top: 130, left: 0, height: 40, width: 30 });
    // Within the allowed ratios, but only the whole image has the area asked for.
    assert.deepEqual(
      randomBox(40, 50, [1, 1], [1, 4 / 3], { ...stuck(), uniform: (low: number) => low } as unknown as Philox),
      {
        top: 0,
        left: 0,
        height: 40,
        width: 50,
      },
    );
  });

  it("of the whole image at its own size is the image", () => {
    const image = noiseImage(12, 12, 3, random);
    const whole = randomResizedCrop(image, [1, 1], [1, 1], { height: 12, width: 12 }, random);
    assert.deepEqual(whole, image);
    const other = randomResizedCrop(image, [0.1, 1], [1, 1], { height: 7, width: 9 }, random);
    assert.deepEqual([other.height, other.width, other.channels, other.data.length], [7, 9, 3, 189]);
  });
});

/** A stream that only ever gives the lowest values. */
function stuck(): Pick<Philox, "int" | "float"> {
  return { int: () => 0, float: () => 0 };
}

for (const interpolation of ["bilinear", "bicubic"] as const) {
  describe(`affine, ${interpolation}`, () => {
    const sampling = { interpolation, fill: [9, 8, 7] };
    const image = noiseImage(8, 8, 3, random);
    const pixel = (pixels: Pixels, y: number, x: number) => [
      ...pixels.data.subarray((y * pixels.width + x) * 3, (y * pixels.width + x) * 3 + 3),
    ];

    it("the identity changes nothing", () => {
      assert.deepEqual(affine(image, [1, 0, 0, 0, 1, 0], sampling), image);
      assert.deepEqual(rotate(image, 0, sampling), image);
      assert.deepEqual(shearX(image, 0, sampling), image);
      assert.deepEqual(translateY(image, 0, sampling), image);
    });

    it("a translation by whole pixels moves the image exactly and shows the fill", () => {
      const right = translateX(image, -2 / 8, sampling);
      const down = translateY(image, -3 / 8, sampling);
      for (let y = 0; y < 8; y++) {
        for (let x = 0; x < 8; x++) {
          assert.deepEqual(pixel(right, y, x), x < 2 ? [9, 8, 7] : pixel(image, y, x - 2));
          assert.deepEqual(pixel(down, y, x), y < 3 ? [9, 8, 7] : pixel(image, y - 3, x));
        }
      }
    });

    it("quarter turns are counter-clockwise and four of them the identity", () => {
      const turned = rotate(image, 90, sampling);
      assert.deepEqual(pixel(turned, 0, 0), pixel(image, 0, 7));
      assert.deepEqual(pixel(turned, 7, 0), pixel(image, 0, 0));
      assert.deepEqual(
        [1, 2, 3].reduce((again) => rotate(again, 90, sampling), turned),
        image,
      );
      assert.deepEqual(rotate(rotate(image, 180, sampling), -180, sampling), image);
    });

    it("a shear leaves the first line almost in place and moves the last", () => {
      const flat: Pixels = { ...image, data: new Uint8Array(192).fill(100) };
      const filled = (pixels: Pixels) =>
        Array.from({ length: 64 }, (_, i) => i).filter((i) => pixel(pixels, i >> 3, i & 7)[0] === 9);
      // Row y looks up x + 0.5 (y + 0.5): the last 4 columns of the last row lie outside.
      assert.deepEqual(
        filled(shearX(flat, 0.5, sampling)).filter((i) => i < 8),
        [],
      );
      assert.deepEqual(
        filled(shearX(flat, 0.5, sampling)).filter((i) => i >= 56),
        [60, 61, 62, 63],
      );
      assert.deepEqual(
        filled(shearY(flat, 0.5, sampling)).filter((i) => i % 8 === 7),
        [39, 47, 55, 63],
      );
    });

    it("a flat image stays flat where it is not filled", () => {
      const flat: Pixels = { ...image, data: new Uint8Array(192).fill(100) };
      const values = new Set(rotate(flat, 20, sampling).data);
      assert.deepEqual(values, new Set([100, 9, 8, 7]));
    });
  });
}
