/**
 * Stage II, exact-expectation form: with everything but the slimming head frozen and one gate, the task loss is the
 * expectation Σ_k p_k·CE_k over the candidates. No straight-through, no masks, no noise; runs on a cached GateSet in double.
 */
import { Philox } from "../random/philox.js";
import type { GateConfig } from "./config.js";
import { type GateLosses, gateLoss } from "./gate-loss.js";
import type { GateSet } from "./gate-set.js";

/** The slimming head's weights, [candidate][feature], and their momentum. */
export interface Head {
  weight: Float32Array;
  momentum: Float32Array;
}

export interface ExpectationOptions {
  config: GateConfig;
  /** Whole-network MAdds of each candidate. */
  madds: readonly number[];
  seed: number;
  batchSize: number;
  /** SGD's momentum, Nesterov. */
  momentum: number;
}

/** Scores of some images, [row][candidate]. */
export function headScores(set: GateSet, rows: readonly number[], weight: Float32Array): Float64Array {
  const d = set.width;
  const count = weight.length / d;
  const scores = new Float64Array(rows.length * count);
  rows.forEach((row, i) => {
    for (let k = 0; k < count; k++) {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += weight[k * d + j]! * set.features[row * d + j]!;
      scores[i * count + k] = sum;
    }
  });
  return scores;
}

/** One epoch over the set in the order that (seed, epoch) gives. Changes `head`; returns the mean losses. */
export function expectationEpoch(
  head: Head,
  set: GateSet,
  epoch: number,
  lr: number,
  options: ExpectationOptions,
): GateLosses {
  const { config, madds, seed, momentum } = options;
  const count = madds.length;
  const d = set.width;
  const order = Array.from({ length: set.images }, (_, i) => i);
  new Philox(seed, epoch, "gate order").shuffle(order);
  const sum: GateLosses = { task: 0, cost: 0, sgs: 0 };
  for (let from = 0; from < order.length; from += options.batchSize) {
    const rows = order.slice(from, from + options.batchSize);
    const scores = headScores(set, rows, head.weight);
    const dscores = new Float64Array(scores.length);
    const losses = gateLoss(scores, rows, set, madds, config, dscores);
    const share = rows.length / order.length;
    for (const key of ["task", "cost", "sgs"] as const) sum[key] += losses[key] * share;
    for (let k = 0; k < count; k++) {
      for (let j = 0; j < d; j++) {
        let g = config.weight_decay * head.weight[k * d + j]!;
        rows.forEach((row, i) => {
          g += dscores[i * count + k]! * set.features[row * d + j]!;
        });
        const m = momentum * head.momentum[k * d + j]! + g;
        head.momentum[k * d + j] = m;
        head.weight[k * d + j]! -= lr * (g + momentum * m);
      }
    }
  }
  return sum;
}
