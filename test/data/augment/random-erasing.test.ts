import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { randomErasing } from "../../../src/data/augment/random-erasing.js";
import { Philox } from "../../../src/random/philox.js";

const [H, W, C, AT] = [24, 32, 3, 10];
const UNTOUCHED = 1000;

/** Rectangle of the erased pixels; null: none. Checks that it is one, full, and inside. */
function erasedBox(image: Float32Array) {
  const at: [number, number][] = [];
  for (let i = 0; i < image.length; i++) {
    if (image[i] === UNTOUCHED) continue;
    const pixel = Math.floor((i - AT) / C);
    assert.ok(i >= AT && pixel < H * W, `wrote outside of the sample, at ${i}`);
    at.push([Math.floor(pixel / W), pixel % W]);
  }
  if (at.length === 0) return null;
  const ys = at.map(([y]) => y);
  const xs = at.map(([, x]) => x);
  const height = Math.max(...ys) - Math.min(...ys) + 1;
  const width = Math.max(...xs) - Math.min(...xs) + 1;
  assert.equal(at.length, height * width * C);
  return { height, width };
}

const erase = (i: number) => {
  const image = new Float32Array(AT + H * W * C + 5).fill(UNTOUCHED);
  randomErasing(image, AT, H, W, C, new Philox(27, i));
  return image;
};

describe("random erasing", () => {
  it("fills one rectangle of 2 to 33 % of the area, aspect 0.3 to 3.3, and nothing else", () => {
    const shares: number[] = [];
    for (let i = 0; i < 500; i++) {
      const box = erasedBox(erase(i));
      if (box === null) continue;
      shares.push((box.height * box.width) / (H * W));
      assert.ok(box.height < H && box.width < W);
      const slack = 1.35; // sides are rounded to whole pixels
      assert.ok(
        box.height / box.width > 0.3 / slack && box.height / box.width < slack / 0.3,
        `${box.height}x${box.width}`,
      );
    }
    assert.ok(shares.length > 480, `${shares.length} erased`);
    assert.ok(Math.min(...shares) > 0.015 && Math.min(...shares) < 0.04);
    assert.ok(Math.max(...shares) < 0.35 && Math.max(...shares) > 0.31);
  });

  it("the noise is standard normal, of its own for every value", () => {
    const noise = Array.from({ length: 100 }, (_, i) => [...erase(i)].filter((v) => v !== UNTOUCHED)).flat();
    const mean = noise.reduce((a, b) => a + b) / noise.length;
    const variance = noise.reduce((a, b) => a + b * b, 0) / noise.length;
    assert.ok(Math.abs(mean) < 5 / Math.sqrt(noise.length), `mean ${mean}`);
    assert.ok(Math.abs(variance - 1) < 5 * Math.sqrt(2 / noise.length), `variance ${variance}`);
    assert.ok(new Set(noise).size > 0.99 * noise.length);
  });

  it("the same stream erases the same", () => {
    assert.deepEqual(erase(3), erase(3));
    assert.notDeepEqual(erase(3), erase(4));
  });

  it("an image too small for any rectangle is left alone", () => {
    const image = Float32Array.of(5);
    randomErasing(image, 0, 1, 1, 1, new Philox(28));
    assert.deepEqual([...image], [5]);
  });
});
