import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UsageError } from "../../src/errors.js";
import { allocPixels, type Pixels } from "../../src/image/pixels.js";
import { resize, resizeToCover } from "../../src/image/resize.js";
import { Philox } from "../../src/random/philox.js";
import { noiseImage } from "./images.js";

const row = (...values: number[]): Pixels => ({
  data: Uint8Array.from(values),
  height: 1,
  width: values.length,
  channels: 1,
});

function transpose({ data, height, width, channels }: Pixels): Pixels {
  const out = allocPixels(width, height, channels);
  for (let i = 0; i < data.length; i++) {
    const c = i % channels;
    const x = Math.trunc(i / channels) % width;
    const y = Math.trunc(i / channels / width);
    out.data[(x * height + y) * channels + c] = data[i]!;
  }
  return out;
}

const filters = ["bilinear", "bicubic"] as const;

describe("resize", () => {
  it("bilinear interpolates when growing and averages by a triangle when shrinking", () => {
    assert.deepEqual([...resize(row(0, 100), 1, 4, "bilinear").data], [0, 25, 75, 100]);
    // Scale 2: a triangle of half width 2 around 1 has weights 3/8, 3/8, 1/8 inside of the border, over 7/8.
    assert.deepEqual([...resize(row(70, 140, 0, 0), 1, 2, "bilinear").data], [90, 20]);
  });

  it("bicubic overshoots at an edge and is clipped to a byte", () => {
    const grown = [...resize(row(10, 10, 240, 240), 1, 8, "bicubic").data];
    assert.ok(Math.min(...grown) < 10 && Math.max(...grown) > 240, `${grown}`);
    const clipped = [...resize(row(5, 5, 250, 250), 1, 8, "bicubic").data];
    assert.deepEqual([Math.min(...clipped), Math.max(...clipped)], [0, 255]);
  });

  for (const filter of filters) {
    it(`${filter}: a flat image stays flat at any size`, () => {
      for (const [height, width] of [
        [1, 1],
        [3, 50],
        [31, 2],
      ] as const) {
        const image = resize({ ...allocPixels(9, 7, 3), data: new Uint8Array(189).fill(201) }, height, width, filter);
        assert.deepEqual(image, {
          data: new Uint8Array(height * width * 3).fill(201),
          height,
          width,
          channels: 3,
        });
      }
    });

    it(`${filter}: columns are treated as rows are`, () => {
      const random = new Philox(3, filter);
      for (let i = 0; i < 20; i++) {
        const image = noiseImage(1 + random.int(20), 1 + random.int(20), i % 2 ? 1 : 3, random);
        const size = 1 + random.int(30);
        const columns = resize(image, size, image.width, filter);
        assert.deepEqual(columns, transpose(resize(transpose(image), image.width, size, filter)));
      }
    });
  }

  it("to the size it has copies nothing; the input is never written to", () => {
    const image = noiseImage(5, 6, 3, new Philox(4));
    const before = image.data.slice();
    assert.equal(resize(image, 5, 6, "bicubic"), image);
    resize(image, 9, 3, "bicubic");
    assert.deepEqual(image.data, before);
  });

  for (const size of [0, -1, 2.5, Number.NaN]) {
    it(`refuses ${size} as a side`, () => {
      assert.throws(() => resize(row(1, 2), size, 2, "bilinear"), UsageError);
      assert.throws(() => resize(row(1, 2), 2, size, "bilinear"), UsageError);
    });
  }
});

describe("resize to cover", () => {
  it("refuses an image so long that covering the target takes far more memory than the image", () => {
    for (const [h, w] of [
      [1, 1_000_000],
      [1_000_000, 1],
    ] as const) {
      assert.throws(() => resizeToCover(allocPixels(h, w, 1), 32, 32, "bilinear"), {
        code: "ERR_FORMAT",
        message: /is too long: .* pixels cover 32x32\. Crop it first/,
      });
    }
  });

  it("brings one side to the target, the other to at least the target, and keeps the aspect", () => {
    const random = new Philox(5);
    for (let i = 0; i < 200; i++) {
      const [h, w, th, tw] = [0, 0, 0, 0].map(() => 1 + random.int(30)) as [number, number, number, number];
      const { height, width } = resizeToCover(allocPixels(h, w, 1), th, tw, "bilinear");
      assert.ok(height >= th && width >= tw);
      const widthAtTargetHeight = Math.floor((th * w) / h);
      const fits = widthAtTargetHeight >= tw;
      assert.deepEqual([height, width], fits ? [th, widthAtTargetHeight] : [Math.floor((tw * h) / w), tw]);
    }
  });
});
