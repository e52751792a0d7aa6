/** A model as it is handed on: without what only training needs, and its weights in half the bytes. */
import { UsageError } from "../errors.js";
import { asFloat32, float16Tensor } from "./float32.js";
import { type ModelFile, selectTensors } from "./model-file.js";

/** The largest finite fp16. */
const LARGEST = 65504;

/** The model without momentum, teacher and where the run stood. Shares the tensors. */
export function withoutTraining({ training: _, ...file }: ModelFile): ModelFile {
  return { ...file, tensors: selectTensors(file.tensors, "parameters") };
}

/**
 * The model with the weights of its convolutions and linear layers in fp16, rounded to nearest even. Norms and biases stay as they
 * are: they are few, and a variance may be out of fp16's range. So may a weight: UsageError then, which names its tensor. Results, which
 * were measured with the weights as they were, go.
 */
export function withHalfWeights(file: ModelFile): ModelFile {
  const tensors = new Map(file.tensors);
  for (const [name, tensor] of tensors) {
    if (tensor.shape.length < 2) continue;
    const values = asFloat32(tensor);
    const half = float16Tensor(tensor.shape, values);
    const beyond = asFloat32(half).findIndex(
      (rounded, i) => Math.abs(rounded) > LARGEST && Math.abs(values[i]!) !== Infinity,
    );
    if (beyond >= 0) {
      throw new UsageError(
        `fp16: ${name} holds ${values[beyond]}, expected at most ${LARGEST}; leave the weights in fp32`,
      );
    }
    tensors.set(name, half);
  }
  const { results: _, ...rest } = file;
  return { ...rest, tensors };
}
