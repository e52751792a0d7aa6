/**
 * The way to choose widths that needs no gate: the slimmest width answers, and where its confidence is below a threshold, a wider one
 * goes on from where the gate stands. Which wider width and which threshold is chosen on held-out images.
 */
import type { CascadePoint } from "../io/model-file.js";
import type { WidthPredictions } from "./predictions.js";

export interface Cascade {
  /** The width that unsure samples go on at. */
  wider: number;
  /** Confidence below which a sample goes on. 0: never. */
  threshold: number;
}

export interface CascadeResult {
  accuracy: number;
  madds: number;
  /** Share of the samples that went on. */
  unsure: number;
}

/** What each width makes of some samples. */
export interface CascadeOutcomes {
  /** The first is the slimmest. */
  widths: readonly Pick<WidthPredictions, "width" | "correct">[];
  /** The slimmest's, of each sample. */
  confidence: Float32Array;
  /** Of a sample that ends at each width, see cost/madds.ts. */
  madds: readonly number[];
}

/**
 * The most accurate cascade on held-out samples whose mean cost there is at most `budget`; ties: the cheaper. It trusts the
 * slimmest on one sample at least. O(n log n + n · widths).
 */
export function chooseCascade({ widths, confidence, madds }: CascadeOutcomes, budget: number): Cascade {
  const slim = widths[0]!;
  const n = slim.correct.length;
  const order = Uint32Array.from(slim.correct, (_, i) => i).sort((a, b) => confidence[a]! - confidence[b]!);
  let best: Cascade = { wider: slim.width, threshold: 0 };
  const slimRight = slim.correct.reduce((sum, c) => sum + c, 0);
  let bestRight = slimRight;
  let bestCost = madds[0]!;
  widths.slice(1).forEach((wide, i) => {
    let right = slimRight;
    for (let unsure = 1; unsure < n; unsure++) {
      const cost = meanCost(madds, i + 1, unsure / n);
      if (cost > budget) break;
      const last = order[unsure - 1]!;
      right += wide.correct[last]! - slim.correct[last]!;
      const next = order[unsure]!;
      const separates = confidence[last]! < confidence[next]!;
      if (separates && (right > bestRight || (right === bestRight && cost < bestCost))) {
        // Halfway, so that no rounding moves a sample to the other side.
        best = { wider: wide.width, threshold: (confidence[last]! + confidence[next]!) / 2 };
        bestRight = right;
        bestCost = cost;
      }
    }
  });
  return best;
}

function meanCost(madds: readonly number[], wider: number, unsure: number): number {
  return (1 - unsure) * madds[0]! + unsure * madds[wider]!;
}

export function runCascade({ widths, confidence, madds }: CascadeOutcomes, cascade: Cascade): CascadeResult {
  const slim = widths[0]!;
  const wider = widths.findIndex((w) => w.width === cascade.wider);
  const n = slim.correct.length;
  let right = 0;
  let count = 0;
  for (let i = 0; i < n; i++) {
    const unsure = confidence[i]! < cascade.threshold;
    right += unsure ? widths[wider]!.correct[i]! : slim.correct[i]!;
    count += Number(unsure);
  }
  const unsure = count / n;
  return { accuracy: right / n, madds: meanCost(madds, wider, unsure), unsure };
}

/** Steps of the knob between the cheapest cascade and the costliest. */
const STEPS = 64;

/** The most accurate cascades at evenly spread costs, cost descending, from images that nothing else was fitted to. */
export function cascadeTable(outcomes: CascadeOutcomes): CascadePoint[] {
  const { widths, madds } = outcomes;
  const [least, most] = [madds[0]!, madds[madds.length - 1]!];
  const points: CascadePoint[] = [];
  for (let i = STEPS; i >= 0; i--) {
    const cascade = chooseCascade(outcomes, least + ((most - least) * i) / STEPS);
    const { unsure, ...result } = runCascade(outcomes, cascade);
    const shares = widths.map(({ width }, k) => (k === 0 ? 1 - unsure : width === cascade.wider ? unsure : 0));
    if (points.length === 0 || result.madds < points[points.length - 1]!.madds) {
      points.push({ ...cascade, ...result, shares });
    }
  }
  return points;
}
