/**
 * The way to choose widths that asks no gate: the slimmest candidate answers, and where its confidence is below a threshold, a wider
 * one goes on from where the gate stands. Which wider width and which threshold is chosen on held-out images.
 */
import { candidateCosts } from "../cost/madds.js";
import type { Cascade, CascadePoint } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Slot } from "../nn/width.js";
import type { Column } from "./answers.js";
import { envelopeAt, type StaticPoint, upperEnvelope } from "./envelope.js";
import type { WidthPredictions } from "./predictions.js";

/** What each width makes of some samples. */
interface CascadeOutcomes {
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

/** What each wider width may be sent, and the concave envelope of what that gains, cheapest first. */
interface Curve {
  steps: readonly Step[];
  corners: readonly StaticPoint[];
}

/**
 * The less confident, the more a wider width gains: fitted so (isotonic regression), what is gained by going on below a threshold is the
 * concave envelope of what was measured. The slimmest is trusted on one sample at least. O(n log n + n · widths).
 */
export function curvesOf({ widths, confidence, madds }: CascadeOutcomes): { alone: Step; curves: Curve[] } {
  const slim = widths[0]!;
  const n = slim.correct.length;
  const order = Uint32Array.from(slim.correct, (_, i) => i).sort((a, b) => confidence[a]! - confidence[b]!);
  const slimRight = slim.correct.reduce((sum, c) => sum + c, 0);
  const alone: Step = { width: slim.width, madds: madds[0]!, accuracy: slimRight / n, threshold: 0 };
  const curves = widths.slice(1).map(({ width, correct }, i) => {
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
    return { steps, corners: upperEnvelope(steps) };
  });
  return { alone, curves };
}

/**
 * The cascade that is to be the most accurate for a mean cost of at most `budget`, from held-out samples; ties: the cheaper. The height
 * of the envelopes at the budget chooses the width, so that chance chooses neither a width nor a threshold below what may be spent.
 */
export function chooseCascade({ alone, curves }: ReturnType<typeof curvesOf>, budget: number): Cascade {
  let best = { step: alone, accuracy: alone.accuracy, cost: alone.madds };
  for (const { steps, corners } of curves) {
    const { accuracy, madds: cost } = envelopeAt(corners, budget);
    if (accuracy < best.accuracy || (accuracy === best.accuracy && cost >= best.cost)) continue;
    const most = Math.min(budget, corners.at(-1)!.madds);
    best = { step: steps.findLast(({ madds }) => madds <= most) ?? alone, accuracy, cost };
  }
  return { wider: best.step.width, threshold: best.step.threshold };
}

function meanCost(madds: readonly number[], wider: number, unsure: number): number {
  return (1 - unsure) * madds[0]! + unsure * madds[wider]!;
}

/** `unsure`: share of the samples that went on. */
export function runCascade(
  { widths, confidence, madds }: CascadeOutcomes,
  cascade: Cascade,
): { accuracy: number; madds: number; unsure: number } {
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
function cascadeTable(outcomes: CascadeOutcomes): CascadePoint[] {
  const { madds } = outcomes;
  const curves = curvesOf(outcomes);
  const [least, most] = [madds[0]!, madds[madds.length - 1]!];
  const points: CascadePoint[] = [];
  for (let i = STEPS; i >= 0; i--) {
    const point = cascadePoint(outcomes, chooseCascade(curves, least + ((most - least) * i) / STEPS));
    if (points.length === 0 || point.madds < points[points.length - 1]!.madds) points.push(point);
  }
  return points;
}

function cascadePoint(outcomes: CascadeOutcomes, { wider, threshold }: Cascade): CascadePoint {
  const { unsure, madds, accuracy } = runCascade(outcomes, { wider, threshold });
  const shares = outcomes.widths.map(({ width }, k) => (k === 0 ? 1 - unsure : width === wider ? unsure : 0));
  return { wider, threshold, madds, accuracy, shares };
}

/**
 * The table of a network whose candidates ran over images that nothing else was fitted to; with `own`, the cascade by which it chooses
 * now, among them.
 */
export function cascadesFrom(net: Supernet, columns: ReadonlyMap<Slot, Column>, own?: Cascade): CascadePoint[] {
  const { candidates } = net.gates[0]!;
  const outcomes: CascadeOutcomes = {
    widths: candidates.map((width) => ({ width, correct: Uint8Array.from(columns.get(width)!.correct) })),
    confidence: Float32Array.from(columns.get(candidates[0]!)!.confidence),
    madds: candidateCosts(net, "cascade"),
  };
  const table = cascadeTable(outcomes);
  return own === undefined ? table : withPoint(table, cascadePoint(outcomes, own));
}

/** A table of descending cost with one more point, in place of those that cost as much. */
export function withPoint<P extends { madds: number }>(points: readonly P[], point: P): P[] {
  return [...points.filter(({ madds }) => madds !== point.madds), point].sort((a, b) => b.madds - a.madds);
}
