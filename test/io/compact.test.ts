import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { load } from "../../src/engine/load.js";
import { withHalfWeights, withoutTraining } from "../../src/io/compact.js";
import { asFloat32, float32Tensor } from "../../src/io/float32.js";
import { decodeModel, encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { sliceModel } from "../../src/models/slice.js";
import { Philox } from "../../src/random/philox.js";
import { sampleModel } from "../support/model.js";

const sample = await sampleModel();

/** The same values, all as F32. */
function widened(file: ModelFile): ModelFile {
  const tensors = Array.from(file.tensors, ([name, tensor]) => {
    return [name, float32Tensor(tensor.shape, asFloat32(tensor).slice())] as const;
  });
  return { ...file, tensors: new Map(tensors) };
}

describe("withoutTraining", () => {
  it("leaves parameters and what a user needs, no teacher, momentum or state", () => {
    const [name, tensor] = [...sample.tensors][0]!;
    const tensors = new Map([...sample.tensors, [`ema.${name}`, tensor], [`optimizer.${name}`, tensor]]);
    const training = { stage: "gate", epoch: 1, step: 2 };
    assert.deepEqual(encodeModel(withoutTraining({ ...sample, tensors, training })), encodeModel(sample));
  });
});

describe("withHalfWeights", () => {
  const half = withHalfWeights(sample);

  it("stores weights of convolutions and linear layers in F16, norms and biases as they were", () => {
    for (const [name, { dtype, shape, data }] of half.tensors) {
      const before = sample.tensors.get(name)!;
      assert.deepEqual(shape, before.shape);
      assert.equal(dtype, shape.length > 1 ? "F16" : "F32", name);
      if (shape.length === 1) assert.equal(Buffer.compare(data, before.data), 0, name);
    }
    assert.equal(half.tensors.get("conv_stem.weight")!.dtype, "F16");
    assert.ok(encodeModel(half).length < 0.6 * encodeModel(sample).length);
  });

  it("leaves out results, which other weights gave", () => {
    assert.equal(withHalfWeights({ ...sample, results: { rows: [] } }).results, undefined);
  });

  it("of what it made is the same again", () => {
    assert.deepEqual(encodeModel(withHalfWeights(half)), encodeModel(half));
  });

  it("loads with the bits of an fp32 file of the rounded weights, and near the model it was", async () => {
    const random = new Philox(3, "images");
    const images = Float32Array.from({ length: 4 * 28 * 28 }, () => random.normal());
    const logits: Float32Array[][] = [];
    for (const file of [half, widened(half), sample]) {
      const network = await load(encodeModel(file), { device: "wasm", threads: 1 });
      logits.push(([0, 5, "largest", "dynamic"] as const).map((width) => network.run(images, { width })));
      network.dispose();
    }
    const [ours, rounded, exact] = logits as [Float32Array[], Float32Array[], Float32Array[]];
    assert.deepEqual(ours, rounded);
    const scale = Math.max(...exact[0]!.map(Math.abs));
    const error = Math.max(...exact[0]!.map((logit, i) => Math.abs(logit - ours[0]![i]!)));
    assert.ok(error > 0 && error < 0.01 * scale, `${error} of ${scale}`);
  });

  it("cuts like an fp32 file of the rounded weights", () => {
    assert.deepEqual(encodeModel(sliceModel(half, 2)), encodeModel(sliceModel(widened(half), 2)));
  });

  it("refuses a weight beyond fp16, and names its tensor", () => {
    const [name, { shape }] = [...sample.tensors].find(([, tensor]) => tensor.shape.length > 1)!;
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(Number.POSITIVE_INFINITY, 0, 1);
    const file = () => ({ ...sample, tensors: new Map([[name, float32Tensor(shape, values)]]) });
    withHalfWeights(file()); // an infinity stays one
    values[1] = 65519.99;
    assert.equal(asFloat32(withHalfWeights(file()).tensors.get(name)!)[1], 65504);
    values[1] = -65520;
    assert.throws(() => withHalfWeights(file()), {
      code: "ERR_USAGE",
      message: `fp16: ${name} holds -65520, expected at most 65504; leave the weights in fp32`,
    });
  });

  it("makes a file that is read as it was written", () => {
    const bytes = encodeModel(half);
    assert.deepEqual(encodeModel(decodeModel(bytes)), bytes);
  });
});
