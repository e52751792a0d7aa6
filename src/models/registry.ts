/** The models by name. Resolutions in comments are for the table's own input size. */
import { UsageError } from "../errors.js";
import { type ModelSpec, steps } from "./spec.js";

const bottleneck = { block: "bottleneck", kernel: 3 } as const;

/** The paper's widths of a ResNet: a quarter, a half, three quarters, all. */
const quarters = (channels: number) => [1, 2, 3, 4].map((k) => (channels * k) / 4);

const registry: Record<string, ModelSpec> = {
  // The paper's supernet on MobileNetV1, as published (`slimmable_mbnet_v1_bn_uniform`): 14 widths, one gate.
  ds_mbnet: {
    description: "DS-MBNet of the paper, 224×224 colour, 14 widths, 133–565 M MAdds",
    input: { height: 224, width: 224, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [16, 24] }, // 224 → 112
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [32, 88] },
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: [48, 168] }, // → 56
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: [96, 264] }, // → 28
      { block: "separable", repeat: 6, kernel: 3, stride: 2, widths: steps(224, 640, 32), gates: [0] }, // → 14
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: steps(736, 1152, 32) }, // → 7
    ],
    act: "swish",
    norm: "bn",
    attention: 0.25,
    residual: false,
    classes: 1000,
    candidates: null,
  },

  // Handwritten digits, clothes and the like. One width before the gate, so `largest` is the widest numbered width. The gate sits
  // as deep as 7 % of the widest's cost allow: how well it tells easy from hard grows with what lies before it. The image is halved
  // behind the stem, not in it: on Fashion-MNIST that is worth more than the same arithmetic spent on channels; so are five taps behind
  // the gate. Attention is worth nothing there, and took three tenths of width 0's time.
  ds_mbnet_28: {
    description: "small DS-MBNet, 28×28 grey, 6 widths",
    input: { height: 28, width: 28, channels: 1 },
    stem: { kernel: 3, stride: 1, widths: [16] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [32] }, // 28 → 14
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [48] },
      { block: "separable", repeat: 3, kernel: 5, stride: 2, widths: steps(32, 272, 48), gates: [0] }, // → 7
    ],
    act: "swish",
    norm: "bn",
    attention: 0,
    residual: false,
    classes: 10,
    candidates: null,
    gate: { hidden: 32, bias: true, act: "sigmoid" },
  },

  // CIFAR and the like. Most blocks are where the image is small, and have shortcuts. The same arithmetic in eight blocks without
  // shortcuts, most of it at 16×16, was 11 points worse after recipes/reduced.yaml (widest), either change alone worse still.
  // Activations behind the sums: 3 points after three epochs of the widest alone.
  ds_mbnet_32: {
    description: "small DS-MBNet, 32×32 colour, 6 widths",
    input: { height: 32, width: 32, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [16] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [24] },
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [40] }, // 32 → 16
      { block: "separable", repeat: 3, kernel: 3, stride: 1, widths: steps(32, 112, 16), gates: [0] },
      { block: "separable", repeat: 4, kernel: 3, stride: 2, widths: steps(56, 256, 40) }, // → 8
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: steps(88, 448, 72) }, // → 4
    ],
    act: "swish",
    norm: "bn",
    attention: 0.5,
    residual: true,
    actAfterSum: true,
    classes: 10,
    candidates: null,
    gate: { hidden: 32, bias: true, act: "sigmoid" },
  },

  // The paper's supernet on ResNet-50, for which no code was published. Known of it: widths of a quarter to all, a first
  // convolution of 64 channels in the blocks with a gate, and 4^7 routes, so seven gates. Where they are is our choice: in the block
  // that starts each stage, whose output has a width of its own, and halfway through the longer stages. Without gates it is ResNet-50
  // with fewer channels in seven places. Attention is in the gates' blocks alone: an ordinary ResNet has none.
  ds_resnet50: {
    description: "DS-ResNet of the paper, 224×224 colour, 4 widths, 7 gates",
    input: { height: 224, width: 224, channels: 3 },
    stem: { kernel: 7, stride: 2, widths: [64], pool: true }, // 224 → 56
    stages: [
      { ...bottleneck, repeat: 3, stride: 1, widths: quarters(256), gates: [0], squeeze: 64 },
      { ...bottleneck, repeat: 4, stride: 2, widths: quarters(512), gates: [0, 2], squeeze: 64 }, // → 28
      { ...bottleneck, repeat: 6, stride: 2, widths: quarters(1024), gates: [0, 3], squeeze: 64 }, // → 14
      { ...bottleneck, repeat: 3, stride: 2, widths: quarters(2048), gates: [0, 1], squeeze: 64 }, // → 7
    ],
    act: "relu",
    norm: "bn",
    attention: 0.25,
    residual: true,
    classes: 1000,
    candidates: null,
  },

  // The same for CIFAR and the like: seven gates in the same places, every width a multiple of 8 inside the blocks too, so that a
  // group of group norm is never cut.
  ds_resnet: {
    description: "small DS-ResNet, 32×32 colour, 4 widths, 7 gates",
    input: { height: 32, width: 32, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [16] },
    stages: [
      { ...bottleneck, repeat: 2, stride: 2, widths: quarters(128), gates: [0], squeeze: 16 }, // 32 → 16
      { ...bottleneck, repeat: 2, stride: 2, widths: quarters(256), gates: [0, 1], squeeze: 32 }, // → 8
      { ...bottleneck, repeat: 2, stride: 1, widths: quarters(384), gates: [0, 1], squeeze: 32 },
      { ...bottleneck, repeat: 2, stride: 2, widths: quarters(512), gates: [0, 1], squeeze: 32 }, // → 4
    ],
    act: "relu",
    norm: "bn",
    attention: 0.25,
    residual: true,
    classes: 10,
    candidates: null,
    gate: { hidden: 32, bias: true },
  },

  // A supernet on MobileNetV2, as ds_mbnet is one on MobileNetV1: one gate where the resolution falls to 14 and the widths behind
  // it from a half to five quarters of the original's; what lies before the gate and the last convolution have the original's.
  // One width, no gate and no attention give MobileNetV2 itself (with ReLU in place of ReLU6).
  ds_mbnet_v2: {
    description: "supernet on MobileNetV2, 224×224 colour, 7 widths",
    input: { height: 224, width: 224, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [32] }, // 224 → 112
    stages: [
      { block: "inverted", repeat: 1, kernel: 3, stride: 1, widths: [16], expansion: 1 },
      { block: "inverted", repeat: 2, kernel: 3, stride: 2, widths: [24], expansion: 6 }, // → 56
      { block: "inverted", repeat: 3, kernel: 3, stride: 2, widths: [32], expansion: 6 }, // → 28
      { block: "inverted", repeat: 4, kernel: 3, stride: 2, widths: steps(32, 80, 8), gates: [0], expansion: 6 }, // → 14
      { block: "inverted", repeat: 3, kernel: 3, stride: 1, widths: steps(48, 120, 12), expansion: 6 },
      { block: "inverted", repeat: 3, kernel: 3, stride: 2, widths: steps(80, 200, 20), expansion: 6 }, // → 7
      { block: "inverted", repeat: 1, kernel: 3, stride: 1, widths: steps(160, 400, 40), expansion: 6 },
      { block: "conv", repeat: 1, kernel: 1, stride: 1, widths: [1280] },
    ],
    act: "relu",
    norm: "bn",
    attention: 1 / 12,
    residual: "identity",
    classes: 1000,
    candidates: null,
  },
};

export function listModels(): string[] {
  return Object.keys(registry);
}

/** The table of a model by name; a copy that may be changed. */
export function modelSpec(name: string): ModelSpec {
  const spec = Object.hasOwn(registry, name) ? registry[name] : undefined;
  if (spec === undefined) {
    throw new UsageError(`model: expected one of ${listModels().join(", ")}, got "${name}"`);
  }
  return structuredClone(spec);
}
