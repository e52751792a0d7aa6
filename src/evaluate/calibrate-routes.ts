/**
 * Measures the budget knob's table for a network with several gates. What a gate chooses changes what the next one sees, so no
 * scores can be kept: every λ is a run over the images. Cascades are of the same width at all gates.
 */
import type { Backend } from "../backend/backend.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import type { Supernet } from "../models/build.js";
import { candidateColumns, routeCosts, runWidths } from "./answers.js";
import type { CalibrateOptions, Calibration } from "./calibrate.js";
import { cascadesFrom } from "./cascade.js";
import { rightRows } from "./top1.js";

/** 0 and half powers of 2 to both sides: one gate's share of the cost is small, so λ has to reach far. */
const LAMBDAS = Array.from({ length: 39 }, (_, i) => Math.sign(i - 19) * 2 ** ((Math.abs(i - 19) - 1) / 2));

/** λ ascending and cost descending, the λ by which the model chooses among them. */
export async function calibrateRoutes(
  backend: Backend,
  net: Supernet,
  span: number,
  batches: AsyncIterable<Batch>,
  { batch, routing, onProgress }: CalibrateOptions,
): Promise<Calibration> {
  const plan = new Plan(backend, net, span, { batch });
  const routeCost = routeCosts(net, true);
  const own = routing?.by === "gate" ? routing.lambda : 0;
  const lambdas = [...new Set([...LAMBDAS, own])].sort((a, b) => a - b);
  const points = lambdas.map((lambda) => ({ lambda, madds: 0, accuracy: 0 }));
  const columns = candidateColumns(net);
  let images = 0;
  try {
    for await (const { images: pixels, labels, size } of batches) {
      images += size;
      backend.f32.set(pixels, plan.input / 4);
      runWidths(plan, columns, labels);
      for (const point of points) {
        for (const route of plan.runRouted(size, { by: "gate", lambda: point.lambda })) point.madds += routeCost(route);
        point.accuracy += rightRows(plan.readLogits(size), labels).reduce((a, b) => a + b, 0);
      }
      onProgress?.(images);
    }
  } finally {
    plan.dispose();
  }
  const table = points.map((sum) => ({ ...sum, madds: sum.madds / images, accuracy: sum.accuracy / images }));
  return { calibration: falling(table, own), cascades: cascadesFrom(net, columns), images };
}

/** Points of λ ascending, without those that contradict the own one, and then without those that cost no less than one before. */
export function falling<P extends { lambda: number; madds: number }>(points: readonly P[], own: number): P[] {
  const { madds } = points.find(({ lambda }) => lambda === own)!;
  return points
    .filter((p) => p.lambda === own || (p.lambda < own ? p.madds > madds : p.madds < madds))
    .filter((point, i, left) => left.slice(0, i).every((before) => before.madds > point.madds));
}
