/**
 * The rival that needs no gate: run the slimmest width, and where its confidence is below a threshold, run a wider one
 * and take its answer. Both runs are paid in full. Which wider width and which threshold is chosen on held-out images.
 */
import type { WidthPredictions } from "./predictions.js";

export interface Cascade {
  /** The width that unsure samples run again at. */
  wider: number;
  /** Confidence below which a sample runs again. 0: never. */
  threshold: number;
}

export interface CascadeResult {
  accuracy: number;
  madds: number;
  /** Share of the samples that ran twice. */
  rerun: number;
}

/**
 * The most accurate cascade on `widths` (held-out) whose mean cost there is at most `budget`; ties: the cheaper. It
 * trusts the slimmest on one sample at least: to rerun all is no cascade. O(n log n + n · widths).
 */
export function chooseCascade(widths: readonly WidthPredictions[], budget: number): Cascade {
  const slim = widths[0]!;
  const n = slim.correct.length;
  const order = Uint32Array.from(slim.correct, (_, i) => i).sort((a, b) => slim.confidence[a]! - slim.confidence[b]!);
  let best: Cascade = { wider: slim.width, threshold: 0 };
  const slimRight = slim.correct.reduce((sum, c) => sum + c, 0);
  let bestRight = slimRight;
  let bestCost = slim.madds;
  for (const wide of widths.slice(1)) {
    let right = slimRight;
    for (let reruns = 1; reruns < n; reruns++) {
      const cost = slim.madds + (reruns / n) * wide.madds;
      if (cost > budget) break;
      const last = order[reruns - 1]!;
      right += wide.correct[last]! - slim.correct[last]!;
      const threshold = slim.confidence[order[reruns]!]!;
      const separates = slim.confidence[last]! < threshold;
      if (separates && (right > bestRight || (right === bestRight && cost < bestCost))) {
        best = { wider: wide.width, threshold };
        bestRight = right;
        bestCost = cost;
      }
    }
  }
  return best;
}

export function runCascade(widths: readonly WidthPredictions[], cascade: Cascade): CascadeResult {
  const slim = widths[0]!;
  const wide = widths.find((w) => w.width === cascade.wider)!;
  const n = slim.correct.length;
  let right = 0;
  let reruns = 0;
  for (let i = 0; i < n; i++) {
    const unsure = slim.confidence[i]! < cascade.threshold;
    right += unsure ? wide.correct[i]! : slim.correct[i]!;
    reruns += Number(unsure);
  }
  const rerun = reruns / n;
  return { accuracy: right / n, madds: slim.madds + rerun * wide.madds, rerun };
}
