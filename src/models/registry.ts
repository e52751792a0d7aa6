/** The models by name. Resolutions in comments are for the table's own input size. */
import { UsageError } from "../errors.js";
import { type ModelSpec, steps } from "./spec.js";

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

  // Handwritten digits and the like. One width before the gate, so `largest` is the widest numbered width. The gate sits
  // as deep as 6 % of the widest's cost allow: how well it tells easy from hard grows with what lies before it.
  ds_mbnet_28: {
    description: "small DS-MBNet, 28×28 grey, 6 widths",
    input: { height: 28, width: 28, channels: 1 },
    stem: { kernel: 3, stride: 2, widths: [16] }, // 28 → 14
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [24] },
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [48] }, // → 7
      { block: "separable", repeat: 2, kernel: 3, stride: 1, widths: steps(32, 272, 48), gates: [0] },
    ],
    act: "swish",
    norm: "bn",
    attention: 1,
    residual: false,
    classes: 10,
    candidates: null,
    gate: { hidden: 32, bias: true },
  },

  // CIFAR and the like.
  ds_mbnet_32: {
    description: "small DS-MBNet, 32×32 colour, 6 widths",
    input: { height: 32, width: 32, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [16] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [24] },
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [40] }, // 32 → 16
      { block: "separable", repeat: 4, kernel: 3, stride: 1, widths: steps(40, 160, 24), gates: [0] },
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: steps(80, 320, 48) }, // → 8
    ],
    act: "swish",
    norm: "bn",
    attention: 0.5,
    residual: false,
    classes: 10,
    candidates: null,
    gate: { hidden: 32, bias: true },
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
