/** Which training images a run uses for what. The same for a seed: what was held out can be found again. */
import { type Dataset, sample, split } from "../data/dataset.js";
import type { TrainConfig } from "./config.js";

export interface Parts {
  /** The run's images: all of them, or `subset`. */
  used: Dataset;
  /** What stage I learns from. */
  learned: Dataset;
  /** What stage I never sees; all that is used where nothing is held out. */
  heldOut: Dataset;
}

export function partsOf(train: Dataset, { subset, seed, gate }: Pick<TrainConfig, "subset" | "seed" | "gate">): Parts {
  const used = subset === null ? train : sample(train, Math.min(subset, train.length), seed);
  if (gate.holdout === 0) return { used, learned: used, heldOut: used };
  const { kept, heldOut } = split(used, gate.holdout, seed);
  return { used, learned: kept, heldOut };
}
