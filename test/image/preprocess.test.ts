import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ShapeError, UsageError } from "../../src/errors.js";
import { allocPixels, centreCrop, toChannels } from "../../src/image/pixels.js";
import { type Preprocessing, preprocess } from "../../src/image/preprocess.js";
import { resize } from "../../src/image/resize.js";
import { Philox } from "../../src/random/philox.js";
import { noiseImage } from "./images.js";

const imagenet: Preprocessing = {
  height: 16,
  width: 16,
  channels: 3,
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  interpolation: "bicubic",
  cropPct: 0.875,
};
const random = new Philox(6);

describe("preprocess", () => {
  it("an image of the network's size is only normalised, in float32 as torchvision does", () => {
    const image = noiseImage(16, 16, 3, random);
    const out = preprocess(image, imagenet);
    const f = Math.fround;
    image.data.forEach((v, i) => {
      const c = i % 3;
      const centred = f(f(v / 255) - f(imagenet.mean[c]!));
      assert.equal(out[i], f(centred / f(imagenet.std[c]!)));
    });
  });

  it("other images: shorter side to floor(size / cropPct), then the centre", () => {
    const image = noiseImage(30, 45, 3, random);
    const scaled = resize(image, 18, 27, "bicubic"); // floor(16 / 0.875) = 18, 45 * 18 / 30 = 27
    assert.deepEqual(preprocess(image, imagenet), preprocess(centreCrop(scaled, 16, 16), imagenet));
  });

  it("a target that is not square is covered", () => {
    const image = noiseImage(40, 20, 3, random);
    const out = preprocess(image, { ...imagenet, height: 8, width: 12, cropPct: 1 });
    const scaled = resize(image, 24, 12, "bicubic");
    assert.deepEqual(out, preprocess(centreCrop(scaled, 8, 12), { ...imagenet, height: 8, width: 12 }));
  });

  it("grey becomes RGB for an RGB network, RGB grey for a grey one", () => {
    const grey = noiseImage(20, 20, 1, random);
    assert.deepEqual(preprocess(grey, imagenet), preprocess(toChannels(grey, 3), imagenet));
    const network = { ...imagenet, channels: 1, mean: [0.5], std: [0.25] };
    const colour = noiseImage(20, 20, 3, random);
    assert.deepEqual(preprocess(colour, network), preprocess(toChannels(colour, 1), network));
    assert.equal(preprocess(colour, network).length, 256);
  });

  it("refuses what cannot be meant", () => {
    const image = allocPixels(16, 16, 3);
    assert.throws(() => preprocess(image, { ...imagenet, cropPct: 0 }), UsageError);
    assert.throws(() => preprocess(image, { ...imagenet, cropPct: 1.2 }), UsageError);
    assert.throws(() => preprocess(image, { ...imagenet, std: [1, 0, 1] }), UsageError);
    assert.throws(() => preprocess(image, { ...imagenet, std: [1] }), UsageError);
    assert.throws(() => preprocess(image, { ...imagenet, channels: 1 }), ShapeError);
    assert.throws(() => preprocess(image, { ...imagenet, channels: 4 }), ShapeError);
  });
});
