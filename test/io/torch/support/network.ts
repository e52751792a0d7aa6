/** A network of a few kilobytes, and checkpoints of it. */
import { float32Tensor } from "../../../../src/io/float32.js";
import type { StoredTensor } from "../../../../src/io/safetensors.js";
import { build } from "../../../../src/models/build.js";
import type { ModelSpec } from "../../../../src/models/spec.js";
import { Global, Reduce, Tuple } from "./pickle.js";
import { ordered, tensor } from "./torch.js";

/** Two widths before the gate, three behind it, so that `largest` is wider than any numbered width. */
export const SPEC: ModelSpec = {
  description: "for tests",
  input: { height: 8, width: 8, channels: 3 },
  stem: { kernel: 3, stride: 2, widths: [2, 4] },
  stages: [{ block: "separable", repeat: 2, kernel: 3, stride: 2, widths: [3, 4, 6], gates: [0] }],
  act: "swish",
  norm: "bn",
  attention: 0.25,
  residual: false,
  classes: 2,
  candidates: null,
};

/** Rows of the published gates do not follow the number of widths: here two of three. */
export const ROWS = 2;

/** Every tensor of the network, small different numbers; variances are positive. */
export function weights(spec: ModelSpec = SPEC, candidates = [0, 1]): Map<string, StoredTensor> {
  let n = 0;
  return new Map(
    build({ ...spec, candidates }).layout.params.map((param) => [
      param.name,
      float32Tensor(
        [...param.fileShape],
        Float32Array.from({ length: param.size }, () => 0.5 + (n++ % 64) / 64),
      ),
    ]),
  );
}

const floats = ({ data }: StoredTensor) => [...new Float32Array(data.buffer, data.byteOffset, data.length / 4)];

/** A state dict as PyTorch has it: counters beside the statistics, `_metadata` behind. */
export function stateDict(tensors: ReadonlyMap<string, StoredTensor>, prefix = ""): Reduce {
  const entries: [string, unknown][] = [];
  for (const [name, stored] of tensors) {
    entries.push([prefix + name, tensor(stored.shape, floats(stored))]);
    if (name.endsWith("running_var")) {
      entries.push([prefix + name.replace("running_var", "num_batches_tracked"), tensor([], [0], "I64")]);
    }
  }
  return ordered(entries, new Map([["_metadata", ordered([["", new Map([["version", 1]])]])]]));
}

export function namespace(settings: Readonly<Record<string, unknown>>): Reduce {
  return new Reduce(new Global("argparse", "Namespace"), new Tuple(), {
    state: new Map(Object.entries(settings)),
    new: true,
  });
}

/** A checkpoint of timm's training script. */
export function checkpoint(more: Readonly<Record<string, unknown>> = {}): Map<string, unknown> {
  return new Map<string, unknown>([
    ["epoch", 7],
    ["arch", "small"],
    ["state_dict", stateDict(weights(), "module.")],
    [
      "optimizer",
      new Map<string, unknown>([["state", new Map([[0, new Map([["momentum_buffer", tensor([2], [1, 2])]])]])]]),
    ],
    ["args", namespace({ lr: 0.25, gate_train: true, resume: "" })],
    ["version", 2],
    ...Object.entries(more),
  ]);
}
