/**
 * The way to choose widths that needs no gate: the slimmest width answers, and where its confidence is below a threshold, a wider one
 * goes on from where the gate stands. Which wider width and which threshold is chosen on held-out images.
 */
import type { CascadePoint } from "../io/model-file.js";
import { envelopeAt, type StaticPoint, upperEnvelope } from "./envelope.js";
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

/** What comes of it where samples below a confidence go on. */
interface Step extends StaticPoint {
  threshold: number;
}

/**
 * The cascade that is to be the most accurate for a mean cost of at most `budget`; ties: the cheaper. It trusts the slimmest on one
 * sample at least. The less confident, the more a wider width gains: fitted so (isotonic regression), what is gained by going on below
 * a threshold is the concave envelope of what was measured. Its height at the budget chooses the width, so that chance chooses neither a
 * width nor a threshold below what may be spent. O(n log n + n · widths).
 */
export function chooseCascade({ widths, confidence, madds }: CascadeOutcomes, budget: number): Cascade {
  const slim = widths[0]!;
  const n = slim.correct.length;
  const order = Uint32Array.from(slim.correct, (_, i) => i).sort((a, b) => confidence[a]! - confidence[b]!);
  const slimRight = slim.correct.reduce((sum, c) => sum + c, 0);
  const alone: Step = { width: slim.width, madds: madds[0]!, accuracy: slimRight / n, threshold: 0 };
  let best = { wider: slim.width, threshold: 0, accuracy: alone.accuracy, cost: alone.madds };
  widths.slice(1).forEach(({ width, correct }, i) => {
    const steps = [alone];
    let right = slimRight;
    for (let unsure = 1; unsure < n; unsure++) {
      const [last, next] = [order[unsure - 1]!, order[unsure]!];
      right += correct[last]! - slim.correct[last]!;
      if (confidence[last]! === confidence[next]!) continue;
      // Halfway, so that no rounding moves a sample to the other side.
      const threshold = (confidence[last]! + confidence[next]!) / 2;
      steps.push({ width, madds: meanCost(madds, i + 1, unsure / n), accuracy: right / n, threshold });
    }
    const corners = upperEnvelope(steps);
    const { accuracy, madds: cost } = envelopeAt(corners, budget);
    if (accuracy < best.accuracy || (accuracy === best.accuracy && cost >= best.cost)) return;
    const most = Math.min(budget, corners.at(-1)!.madds);
    const { threshold } = steps.findLast((step) => step.madds <= most) ?? alone;
    best = { wider: width, threshold, accuracy, cost };
  });
  // Where nothing that fits goes on, the width says nothing.
  return best.threshold === 0 ? { wider: slim.width, threshold: 0 } : { wider: best.wider, threshold: best.threshold };
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

/** The cascades to choose for evenly spread costs, cost descending, from images that nothing else was fitted to. */
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
