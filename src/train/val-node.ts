/** `val`: the honest table of a trained model on labelled images. */
import { UsageError } from "../errors.js";
import type { Evaluation } from "../evaluate/evaluate.js";
import type { Measured } from "../evaluate/measure.js";
import { evaluateModel } from "../evaluate/model.js";
import { routingOf } from "../io/model-file.js";
import { type LabelledOptions, withLabelled } from "./labelled-node.js";

export interface ValOptions extends LabelledOptions {
  /** Random routes to run too, where the network has several gates. Default 0. */
  routes?: number;
}

/**
 * Every row of the honest table for one model file. What dynamic is compared with, the other of gate and cascade, is set by the
 * model's tables to spend the same.
 * Throws UncalibratedError where norm statistics of a width were never measured.
 */
export async function val(model: string, options: ValOptions): Promise<Evaluation> {
  return (await measureModel(model, options)).evaluation;
}

/** The same, and what it was computed from. */
export async function measureModel(
  model: string,
  options: ValOptions,
): Promise<{ evaluation: Evaluation; measured: Measured }> {
  const { routes = 0 } = options;
  return withLabelled(model, options, async ({ file, net, backend, span, loader }) => {
    if (routes > 0 && net.gates.length < 2) {
      throw new UsageError(
        `routes: ${file.model.name} has ${net.gates.length} gates, only several make routes to draw`,
      );
    }
    const routing = file.candidates.length > 0 ? routingOf(file) : undefined;
    return evaluateModel(backend, net, span, loader.inOrder(), {
      batch: loader.batchSize,
      classNames: file.classes,
      choice: { ...file, routing },
      largest: !net.largestIsNumbered && (file.calibrated ?? []).includes("largest"),
      routes,
      onProgress: (images) => options.onProgress?.(images, loader.dataset.length),
    });
  });
}
