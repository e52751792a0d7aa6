/**
 * Stage II's losses on the gate's outputs, for one batch, in double. Either the paper's three (DS-Net, 3.3): the task (here as exact
 * expectation over the candidates), the cost in MAdds, and sandwich gate sparsification (SGS). Or, ours, how well the gate foretells
 * the probability that each candidate gives the true class; the cost then enters at the choice alone (cost/bias.ts).
 */
import { logSumExp, softmax } from "../ops/softmax.js";
import type { GateConfig } from "./config.js";

/** What is known of a sample once the supernet is frozen. */
export interface GateTargets {
  /** Cross-entropy at each candidate, [sample][candidate]. */
  losses: Float32Array;
  /** Whether each candidate is right, [sample][candidate]. */
  correct: Uint8Array;
}

interface GateLosses {
  task: number;
  cost: number;
  sgs: number;
}

/** Where SGS sends a sample: 0 (slimmest), `last`, or null where it has no say. */
export function sgsTarget(correct: Uint8Array, at: number, count: number, sgs: GateConfig["sgs"]): number | null {
  if (sgs === "none") return null;
  if (correct[at] === 1) return 0;
  // Give Up: what even the widest gets wrong is not worth its cost.
  return sgs === "give_up" && correct[at + count - 1] === 0 ? 0 : count - 1;
}

/** Cost of the mean MAdds: (mean / widest)², or (mean / target − 1)² where there is a target. Returns value and slope. */
export function costLoss(mean: number, widest: number, target: number | null): { value: number; slope: number } {
  if (target === null) return { value: (mean / widest) ** 2, slope: (2 * mean) / widest ** 2 };
  const off = mean / target - 1;
  return { value: off ** 2, slope: (2 * off) / target };
}

/**
 * Label-smoothed cross-entropy of rows of scores, [row][candidate], against targets: its mean over the rows, and that mean's
 * gradient.
 */
export function gateCrossEntropy(
  scores: Float64Array,
  targets: Int32Array,
  count: number,
  smoothing: number,
): { value: number; gradient: Float64Array } {
  const rows = targets.length;
  const gradient = new Float64Array(scores.length);
  let value = 0;
  for (let i = 0; i < rows; i++) {
    const row = scores.subarray(i * count, (i + 1) * count);
    const lse = logSumExp(row);
    for (let k = 0; k < count; k++) {
      const t = smoothing / count + (k === targets[i] ? 1 - smoothing : 0);
      value += (t * (lse - row[k]!)) / rows;
      gradient[i * count + k] = (Math.exp(row[k]! - lse) - t) / rows;
    }
  }
  return { value, gradient };
}

/**
 * Losses of one batch and their weighted gradient with respect to the scores, [sample][candidate].
 * `madds`: of each candidate, whole network. Task and SGS are means over samples; cost is taken of the batch's mean.
 */
export function gateLoss(
  scores: Float64Array,
  rows: readonly number[],
  targets: GateTargets,
  madds: readonly number[],
  config: GateConfig,
  dscores: Float64Array,
): GateLosses {
  const count = madds.length;
  const n = rows.length;
  const probs = new Float64Array(scores.length);
  let meanCost = 0;
  for (let i = 0; i < n; i++) {
    probs.set(softmax(scores.subarray(i * count, (i + 1) * count)), i * count);
    for (let k = 0; k < count; k++) meanCost += (probs[i * count + k]! * madds[k]!) / n;
  }
  const cost = costLoss(meanCost, madds[count - 1]!, config.target_madds);
  let task = 0;
  let sgs = 0;
  for (let i = 0; i < n; i++) {
    const at = i * count;
    const source = rows[i]! * count;
    // The task and the cost are linear in the probabilities: dL/ds_k = p_k (v_k − Σ p v).
    let expected = 0;
    let expectedTask = 0;
    const value = (k: number) =>
      (config.task_weight * targets.losses[source + k]! + config.cost_weight * cost.slope * madds[k]!) / n;
    for (let k = 0; k < count; k++) {
      expected += probs[at + k]! * value(k);
      expectedTask += probs[at + k]! * targets.losses[source + k]!;
    }
    task += expectedTask / n;
    const target = sgsTarget(targets.correct, source, count, config.sgs);
    for (let k = 0; k < count; k++) {
      let slope = probs[at + k]! * (value(k) - expected);
      if (target !== null) slope += (config.sgs_weight * (probs[at + k]! - (k === target ? 1 : 0))) / n;
      dscores[at + k] = slope;
    }
    if (target !== null) sgs -= Math.log(Math.max(probs[at + target]!, 1e-300)) / n;
  }
  return { task, cost: cost.value, sgs };
}

export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/**
 * Binary cross-entropy between sigmoid(logits) and exp(−CE), the probability that each candidate gave the true class: its mean over
 * samples, summed over candidates. It learns from every image how much a width is worth, where a loss on the choice learns only
 * from the few on which the widths differ. Sets the gradient.
 */
export function probabilityLoss(
  logits: Float64Array,
  rows: readonly number[],
  { losses }: GateTargets,
  count: number,
  dlogits: Float64Array,
): number {
  let sum = 0;
  for (let i = 0; i < rows.length; i++) {
    for (let k = 0; k < count; k++) {
      const z = logits[i * count + k]!;
      const target = Math.exp(-losses[rows[i]! * count + k]!);
      sum += Math.max(z, 0) - z * target + Math.log1p(Math.exp(-Math.abs(z)));
      dlogits[i * count + k] = (sigmoid(z) - target) / rows.length;
    }
  }
  return sum / rows.length;
}
