import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ShapeError } from "../../src/errors.js";
import { centreCrop, crop, luma, type Pixels, toChannels } from "../../src/image/pixels.js";

const grey = (height: number, width: number): Pixels => ({
  data: Uint8Array.from({ length: height * width }, (_, i) => i),
  height,
  width,
  channels: 1,
});

describe("channels", () => {
  it("luma of a grey is itself, of the primaries ITU-R 601-2's weights", () => {
    for (let v = 0; v < 256; v++) assert.equal(luma(v, v, v), v);
    assert.deepEqual([luma(255, 0, 0), luma(0, 255, 0), luma(0, 0, 255)], [76, 150, 29]);
  });

  it("grey to RGB to grey is the identity; no conversion copies nothing", () => {
    const image = grey(3, 5);
    const rgb = toChannels(image, 3);
    assert.deepEqual([...rgb.data.subarray(0, 6)], [0, 0, 0, 1, 1, 1]);
    assert.deepEqual(toChannels(rgb, 1), image);
    assert.equal(toChannels(image, 1), image);
    assert.equal(toChannels(rgb, 3), rgb);
  });
});

describe("crop", () => {
  it("copies the rectangle, of every channel", () => {
    assert.deepEqual([...crop(grey(3, 4), 1, 2, 2, 2).data], [6, 7, 10, 11]);
    const rgb: Pixels = { data: Uint8Array.from({ length: 12 }, (_, i) => i), height: 2, width: 2, channels: 3 };
    assert.deepEqual([...crop(rgb, 1, 1, 1, 1).data], [9, 10, 11]);
  });

  it("outside of the image is refused", () => {
    for (const [top, left] of [
      [-1, 0],
      [0, -1],
      [2, 0],
      [0, 3],
    ] as const) {
      assert.throws(() => crop(grey(3, 4), top, left, 2, 2), ShapeError);
    }
    assert.throws(() => centreCrop(grey(3, 4), 4, 4), ShapeError);
  });

  it("of the centre halves to even, as Python's round", () => {
    const firstOf = (width: number, target: number) => centreCrop(grey(1, width), 1, target).data[0];
    assert.deepEqual([firstOf(4, 3), firstOf(6, 3), firstOf(8, 3), firstOf(10, 3), firstOf(9, 3)], [0, 2, 2, 4, 3]);
  });
});
