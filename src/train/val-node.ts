/** `val`: the honest table of a trained model on labelled images. */
import { maddsBeforeGate } from "../cost/madds.js";
import { type Evaluation, evaluate } from "../evaluate/evaluate.js";
import { measure } from "../evaluate/measure.js";
import { type LabelledOptions, withLabelled } from "./labelled-node.js";

/**
 * Every row of the honest table for one model file. The cascade is the one that the training run chose on held-out images.
 * Throws UncalibratedError where norm statistics of a width were never measured.
 */
export async function val(model: string, options: LabelledOptions): Promise<Evaluation> {
  return withLabelled(model, options, async ({ file, net, backend, span, loader }) => {
    const measured = await measure(backend, net, span, loader.inOrder(), {
      batch: loader.batchSize,
      dynamic: file.candidates.length > 0,
      largest: !net.largestIsNumbered && (file.calibrated ?? []).includes("largest"),
      onProgress: (images) => options.onProgress?.(images, loader.dataset.length),
    });
    const { labels, widths, largest, dynamic } = measured;
    return evaluate({
      labels,
      classNames: file.classes,
      widths,
      ...(largest === undefined ? {} : { largest }),
      ...(dynamic === undefined ? {} : { dynamic }),
      ...(file.cascade === undefined ? {} : { cascade: file.cascade }),
      sharedMadds: maddsBeforeGate(net),
    });
  });
}
