/** The recipe a model is trained with when nothing else is said. The augmentation depends on the model's input size, stage II on its gates. */
import { modelSpec } from "../models/registry.js";
import { gateCount, type ModelSpec } from "../models/spec.js";
import type { AugmentConfig, GateConfig, TrainConfig } from "./config.js";

/** Small images are padded and cropped, large ones cropped and resized. Digits (28 pixels) must not be mirrored. */
function defaultAugment(size: number): AugmentConfig {
  return {
    crop_pad: size > 64 ? 0 : size > 28 ? 4 : 2,
    scale: size > 64 ? [0.2, 1] : null,
    ratio: [3 / 4, 4 / 3],
    hflip: size === 28 ? 0 : 0.5,
    color_jitter: 0,
    aa: null,
    reprob: 0,
  };
}

/**
 * One gate learns on cached features, many cheap epochs of them. Several need the paper's form, with its weights of the losses:
 * every step is a pass through the masked network. The table says whether scores are probabilities.
 */
type GateDefaults = Pick<
  GateConfig,
  "epochs" | "method" | "routing" | "weight_decay" | "sgs" | "task_weight" | "cost_weight"
>;

function defaultGate(spec: ModelSpec): GateDefaults {
  if (gateCount(spec) > 1) {
    return {
      epochs: 5,
      method: "gumbel",
      routing: "gate",
      weight_decay: 0,
      sgs: "try_best",
      task_weight: 1,
      cost_weight: 0.5,
    };
  }
  const losses = { epochs: 12, sgs: "none", task_weight: 10, cost_weight: 1 } as const;
  return spec.gate?.act === "sigmoid"
    ? { ...losses, method: "probability", routing: "cascade", weight_decay: 1e-3 }
    : { ...losses, method: "expectation", routing: "gate", weight_decay: 0 };
}

/** A complete configuration for a model of the registry (UsageError: it has none of that name). `data` is empty: only the caller knows it. */
export function defaultConfig(model: string): TrainConfig {
  const spec = modelSpec(model);
  return {
    model,
    init: null,
    data: "",
    width: null,
    output: `runs/${model}`,
    seed: 0,
    device: "auto",
    threads: 0,
    workers: 0,
    batch_size: 128,
    epochs: 10,
    subset: null,
    lr: 0.1,
    min_lr: 0,
    warmup_epochs: 1,
    warmup_lr: 1e-4,
    momentum: 0.9,
    weight_decay: 1e-4,
    clip_grad: null,
    smoothing: 0.1,
    drop: 0.2,
    model_ema_decay: 0.997,
    bootstrap: "none", // labels won the ablations, and on Fashion-MNIST at full length: docs/RESULTS.md
    random_widths: 2,
    norm: "bn",
    attention: "on",
    recalibration_batches: 100,
    augment: defaultAugment(spec.input.height),
    gate: {
      ...defaultGate(spec),
      stage: null,
      hidden: spec.gate?.hidden ?? 0,
      lr: 0.05,
      candidates: null,
      sgs_weight: 1,
      target_madds: null,
      holdout: 0.1,
      images: "all",
      views: 2,
    },
    recovery_interval: 200,
    max_broken: 0.01,
    compat: "paper",
  };
}

/** Mean MAdds that a model is to spend where no budget is set; `widest`: its widest candidate's. */
export function spending(widest: number, { target_madds }: GateConfig): number {
  return target_madds ?? widest / 3;
}
