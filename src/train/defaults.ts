/** The recipe a model is trained with when nothing else is said. Only the augmentation depends on the model's input size. */
import { modelSpec } from "../models/registry.js";
import type { AugmentConfig, TrainConfig } from "./config.js";

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

/** A complete configuration for a model of the registry (UsageError: it has none of that name). `data` is empty: only the caller knows it. */
export function defaultConfig(model: string): TrainConfig {
  return {
    model,
    init: null,
    data: "",
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
    smoothing: 0.1,
    drop: 0.2,
    model_ema_decay: 0.997,
    bootstrap: "inplace",
    random_widths: 2,
    norm: "bn",
    recalibration_batches: 100,
    augment: defaultAugment(modelSpec(model).input.height),
    gate: {
      epochs: 12,
      lr: 0.05,
      weight_decay: 0,
      method: "expectation",
      sgs: "none",
      candidates: null,
      task_weight: 10,
      cost_weight: 1,
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
