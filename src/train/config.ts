/**
 * Everything a training run can be told; the defaults are in defaults.ts. Names follow timm where it has them. Pure data: the CLI validates
 * YAML and flags against a schema of this type (cli/config.ts), the training code reads it.
 */
export interface AugmentConfig {
  /** Zero-pad by this many pixels on all sides, then crop back at a random place. 0: off. Excludes `rrc`. */
  crop_pad: number;
  /** Random-resized-crop: area scale [min, max]; null: off. */
  scale: [number, number] | null;
  /** Aspect ratio [min, max] of random-resized-crop. */
  ratio: [number, number];
  /** Probability of a horizontal flip. */
  hflip: number;
  /** Brightness, contrast and saturation jitter: factor drawn from [1 - v, 1 + v]. 0: off. */
  color_jitter: number;
  /** RandAugment in timm's notation, for example "rand-m9-mstd0.5"; null: off. */
  aa: string | null;
  /** Probability of random erasing (per-pixel noise). */
  reprob: number;
}

export interface GateConfig {
  epochs: number;
  lr: number;
  weight_decay: number;
  /**
   * `probability`: the gate foretells with what probability each candidate gives the true class, and chooses by that less the
   * cost; `expectation`: the paper's losses with the exact sum over candidates (both for one gate only); `gumbel`: straight-through,
   * masked, as in the paper.
   */
  method: "probability" | "expectation" | "gumbel";
  /** Stage whose first block holds the gate, in a network with one gate; null: the model's own. The widths of all stages stay. */
  stage: number | null;
  /** Channels of the gate's hidden layer; 0: none, a linear gate as in the paper (there without a bias). */
  hidden: number;
  /** Sandwich gate sparsification: what a sample counts as when the slimmest is wrong on it. Not of `probability`. */
  sgs: "try_best" | "give_up" | "none";
  /** Width indices the gate chooses among; null: every width. */
  candidates: number[] | null;
  /** Weights of the task, cost and SGS losses (paper: 1, 0.5, 1). Not of `probability`. */
  task_weight: number;
  cost_weight: number;
  sgs_weight: number;
  /**
   * Mean MAdds to aim at. null: a third of the widest candidate's; but the losses of `expectation` and `gumbel` then press the cost down,
   * as in the published code, and their gate spends what comes of it.
   */
  target_madds: number | null;
  /**
   * How the model chooses widths where no budget is set, and for whose budgets: by the gate, or by a cascade, for which the slimmest
   * candidate's confidence decides whether a wider one goes on. `cascade` needs a network with one gate.
   */
  routing: "gate" | "cascade";
  /** Share of the training images that stage I never sees, so that the gate learns from images the supernet has not fitted. */
  holdout: number;
  /**
   * What the gate learns from. Hard images are rare: `all` adds the training images, which help while the supernet has not
   * fitted them; then, `held_out` is the honest teacher.
   */
  images: "held_out" | "all";
  /** Times they are seen: the held-out ones as they are, then all augmented. `gumbel` sees held-out ones alone, augmented anew each epoch. */
  views: number;
}

export interface TrainConfig {
  /** Name in the registry, see `dsnet inspect --list`. */
  model: string;
  /** File that the first weights are from: a model of the same table, or a plain network that is one of its widths; null: random. */
  init: string | null;
  /** Folder or archive with the images, or `mnist`. */
  data: string;
  /**
   * Train this numbered width alone, as a network of its own, by labels: what the supernet's width is to be compared with.
   * null: the supernet.
   */
  width: number | null;
  /** Run folder; made if absent. */
  output: string;
  seed: number;
  device: "auto" | "native" | "wasm";
  /** Kernel threads; 0: as many as the machine has cores. */
  threads: number;
  /** Worker threads that decode and augment; 0: in the main thread. */
  workers: number;
  batch_size: number;
  epochs: number;
  /** Use only the first N training images (after the seed's shuffle); null: all. */
  subset: number | null;
  lr: number;
  min_lr: number;
  warmup_epochs: number;
  warmup_lr: number;
  momentum: number;
  weight_decay: number;
  /**
   * Longest gradient (Euclidean norm) of a step of stage I, summed over its passes; a longer one is shortened to it. null: any. Where a
   * norm's gain passes through zero in front of another norm, the gain's gradient is hundreds of times as long for a step.
   */
  clip_grad: number | null;
  smoothing: number;
  /** Dropout before the classifier, at `largest` only. */
  drop: number;
  /** The teacher's. It rises to this from a low start (as in timm), so that a young teacher is worth listening to. */
  model_ema_decay: number;
  /**
   * What the narrower sub-networks learn in stage I: in-place ensemble bootstrapping, the paper's; in-place bootstrapping, its code's;
   * in-place distillation; labels.
   */
  bootstrap: "ensemble" | "inplace" | "distill" | "none";
  /** Random widths a step, beside largest and smallest. */
  random_widths: number;
  norm: "bn" | "gn";
  /** `on`: attention as the model's table has it; `off`: none, so that the gate reads the pooled activation. */
  attention: "on" | "off";
  /** Batches that recalibration averages over, for every width. */
  recalibration_batches: number;
  augment: AugmentConfig;
  gate: GateConfig;
  /** Steps between recovery checkpoints inside an epoch; 0: only at epoch ends. */
  recovery_interval: number;
  /** Stop with an error when more than this share of images is broken. */
  max_broken: number;
  /**
   * `published`: follow the authors' code where it differs from the paper (learning rate by epoch, teacher without warm-up,
   * recalibration, stage II's losses).
   */
  compat: "paper" | "published";
}
