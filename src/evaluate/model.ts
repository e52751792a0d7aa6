/** A model over images, and the honest table of what came of it. */
import type { Backend } from "../backend/backend.js";
import { candidateCosts } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import type { Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import { otherRouting, type Tables } from "./calibrate.js";
import { type Evaluation, evaluate } from "./evaluate.js";
import { type Measured, type MeasureOptions, measure } from "./measure.js";

export interface ModelOptions extends Omit<MeasureOptions, "routing" | "gateLambda"> {
  classNames: readonly string[];
  /** How the model chooses, and its tables: what dynamic is compared with is the other way, at the same cost. */
  choice: Tables & { routing?: Routing | undefined };
}

export async function evaluateModel(
  backend: Backend,
  net: Supernet,
  span: number,
  batches: AsyncIterable<Batch>,
  { classNames, choice, ...options }: ModelOptions,
): Promise<{ evaluation: Evaluation; measured: Measured }> {
  const { routing } = choice;
  const rival = routing && otherRouting(choice, routing);
  const measured = await measure(backend, net, span, batches, {
    ...options,
    routing,
    gateLambda: rival?.by === "gate" ? rival.lambda : undefined,
  });
  const { indices: _, ...predictions } = measured;
  const evaluation = evaluate({
    ...predictions,
    classNames: [...classNames],
    cascade: rival?.by === "cascade" ? { ...rival, madds: candidateCosts(net, "cascade") } : undefined,
  });
  return { evaluation, measured };
}
