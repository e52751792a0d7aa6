/** Measures the budget knob's tables (engine/budget.ts) on images: from the gate's scores, and from the slimmest width's confidence. */
import type { Backend } from "../backend/backend.js";
import { costBias } from "../cost/bias.js";
import { candidateCosts } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import type { CalibrationPoint, CascadePoint, ModelFile, Outcome, Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Slot } from "../nn/width.js";
import { type Column, candidateColumns, runWidths } from "./answers.js";
import { calibrateRoutes } from "./calibrate-routes.js";
import { cascadesFrom, withPoint } from "./cascade.js";

/** What is known of some images: the gate's scores and whether each candidate is right, [image][candidate]. */
interface GateOutcomes {
  scores: ArrayLike<number>;
  correct: ArrayLike<number>;
  images: number;
}

export interface CalibrateOptions {
  /** Images a call at most. */
  batch: number;
  /** How the model chooses: that point is in its table too. */
  routing?: Routing;
  onProgress?: (images: number) => void;
}

export interface Calibration {
  /** λ ascending. */
  calibration: CalibrationPoint[];
  /** Cost descending. */
  cascades: CascadePoint[];
  /** How many images it is the mean of. */
  images: number;
}

/** The tables of a network with gates, from images that nothing else was fitted to. */
export async function measureCalibration(
  backend: Backend,
  net: Supernet,
  span: number,
  batches: AsyncIterable<Batch>,
  options: CalibrateOptions,
): Promise<Calibration> {
  if (net.gates.length > 1) return calibrateRoutes(backend, net, span, batches, options);
  const { routing } = options;
  const { scores, columns } = await runGate(backend, net, span, batches, options);
  const { candidates } = net.gates[0]!;
  const rights = candidates.map((k) => columns.get(k)!.correct);
  const images = rights[0]!.length;
  const correct = scores.map((_, i) => rights[i % candidates.length]![Math.floor(i / candidates.length)]!);
  const costs = candidateCosts(net, "gate");
  const outcomes = { scores, correct, images };
  const table = calibrationTable(outcomes, costs);
  const calibration = routing?.by === "gate" ? withPoint(table, outcomeAt(outcomes, costs, routing.lambda)) : table;
  return { calibration, cascades: cascadesFrom(net, columns, routing?.by === "cascade" ? routing : undefined), images };
}

/** Runs the gate and each of its candidates over every image. For networks with one gate. */
async function runGate(
  backend: Backend,
  net: Supernet,
  span: number,
  batches: AsyncIterable<Batch>,
  { batch, onProgress }: CalibrateOptions,
): Promise<{ scores: number[]; columns: Map<Slot, Column> }> {
  const { candidates } = net.gates[0]!;
  const plan = new Plan(backend, net, span, { batch, slots: candidates, dynamic: true });
  const scores: number[] = [];
  const columns = candidateColumns(net);
  let images = 0;
  try {
    for await (const { images: pixels, labels, size } of batches) {
      backend.f32.set(pixels, plan.input / 4);
      scores.push(...plan.gateScores(size));
      runWidths(plan, columns, labels);
      images += size;
      onProgress?.(images);
    }
  } finally {
    plan.dispose();
  }
  return { scores, columns };
}

/** A model's tables. */
export type Tables = Pick<ModelFile, "calibration" | "cascades">;

/** The point of the gate's table, or the cascade's, that spends at most so much in the mean; else the cheapest. */
export function routingWithin(
  { calibration, cascades }: Tables,
  by: Routing["by"],
  madds: number,
): Routing | undefined {
  const within = <P extends Outcome>(points: readonly P[] = []): P | undefined =>
    points.find((point) => point.madds <= madds) ?? points[points.length - 1];
  if (by === "gate") {
    const point = within(calibration);
    return point && { by, lambda: point.lambda };
  }
  const point = within(cascades);
  return point && { by, wider: point.wider, threshold: point.threshold };
}

/** The point of the tables that a routing is, for a gate with a λ between two the costlier: what it costs and achieves. */
export function pointOf({ calibration, cascades }: Tables, routing: Routing): Outcome | undefined {
  return routing.by === "gate"
    ? (calibration?.find(({ lambda }) => lambda === routing.lambda) ??
        calibration?.findLast(({ lambda }) => lambda < routing.lambda) ??
        calibration?.[0])
    : cascades?.find(({ wider, threshold }) => wider === routing.wider && threshold === routing.threshold);
}

/** The other way to choose, at the point of its table that spends what `routing` does; undefined where a table lacks. */
export function otherRouting(tables: Tables, routing: Routing): Routing | undefined {
  const point = pointOf(tables, routing);
  return point && routingWithin(tables, routing.by === "gate" ? "cascade" : "gate", point.madds);
}

/** Accuracy, mean MAdds and routes at one λ. `madds`: of each candidate. */
export function outcomeAt(o: GateOutcomes, madds: readonly number[], lambda: number): CalibrationPoint {
  const count = madds.length;
  const bias = costBias(lambda, madds);
  const taken = madds.map(() => 0);
  let right = 0;
  for (let i = 0; i < o.images; i++) {
    let best = 0;
    for (let k = 1; k < count; k++) {
      if (o.scores[i * count + k]! + bias[k]! > o.scores[i * count + best]! + bias[best]!) best = k;
    }
    taken[best]!++;
    right += o.correct[i * count + best]!;
  }
  const spent = taken.reduce((sum, images, k) => sum + images * madds[k]!, 0);
  const shares = taken.map((images) => images / o.images);
  return { lambda, madds: spent / o.images, accuracy: right / o.images, shares };
}

/** Steps of the knob between all-slimmest and all-widest. */
const STEPS = 64;

/**
 * The table, λ ascending (cost descending), from every image at the widest to every image at the slimmest, at evenly spread
 * mean costs as far as the scores allow. Measure it on images that nothing else was fitted to.
 */
export function calibrationTable(o: GateOutcomes, madds: readonly number[]): CalibrationPoint[] {
  const widest = madds[madds.length - 1]!;
  const slimmest = madds[0]!;
  let reach = 1;
  const covers = (r: number) =>
    outcomeAt(o, madds, r).madds <= slimmest * (1 + 1e-9) && outcomeAt(o, madds, -r).madds >= widest * (1 - 1e-9);
  while (reach < 2 ** 40 && !covers(reach)) reach *= 2;
  const points = [outcomeAt(o, madds, -reach), outcomeAt(o, madds, 0), outcomeAt(o, madds, reach)];
  for (let i = 1; i < STEPS; i++)
    points.push(pointAtCost(o, madds, slimmest + ((widest - slimmest) * i) / STEPS, reach));
  points.sort((a, b) => a.lambda - b.lambda);
  return points.filter((p, i) => i === 0 || p.madds !== points[i - 1]!.madds);
}

/** The smallest λ found whose mean cost is at most `madds`, by bisection in ±`reach`. */
export function pointAtCost(
  o: GateOutcomes,
  costs: readonly number[],
  madds: number,
  reach = 2 ** 10,
): CalibrationPoint {
  let low = -reach;
  let high = reach;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (outcomeAt(o, costs, middle).madds > madds) low = middle;
    else high = middle;
  }
  return outcomeAt(o, costs, high);
}
