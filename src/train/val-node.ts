/** `val`: the honest table of a trained model on labelled images. */
import type { Backend } from "../backend/backend.js";
import { openBackend } from "../backend/open.js";
import { maddsBeforeGate } from "../cost/madds.js";
import { openLoader } from "../data/loader-node.js";
import { openData } from "../data/open-node.js";
import { DataError, UncalibratedError, UsageError } from "../errors.js";
import { type Evaluation, evaluate } from "../evaluate/evaluate.js";
import { measure } from "../evaluate/measure.js";
import { selectTensors } from "../io/model-file.js";
import { readModelFile } from "../io/model-file-node.js";
import { networkOf } from "../models/file.js";
import { allocSpan, readState } from "../models/state.js";

export interface ValOptions {
  /** Folder, archive, or `mnist`. */
  data: string;
  /** Which part of the data. Default `val`. */
  split?: string;
  /** Images a call of the engine. Default 100. */
  batchSize?: number;
  /** Random routes to run too, where the network has several gates. Default 0. */
  routes?: number;
  device?: "auto" | "native" | "wasm";
  threads?: number;
  workers?: number;
  onProgress?: (images: number, total: number) => void;
  onWarning?: (message: string) => void;
}

/**
 * Every row of the honest table for one model file. The cascade is the one that the training run chose on held-out images.
 * Throws UncalibratedError where norm statistics of a width were never measured.
 */
export async function val(model: string, options: ValOptions): Promise<Evaluation> {
  const { data, split = "val", batchSize = 100, device = "auto", threads = 0, workers = 0, routes = 0 } = options;
  if (split !== "val" && split !== "train") throw new UsageError(`split: expected val or train, got ${split}`);
  const file = await readModelFile(model);
  const net = networkOf(file);
  const calibrated = new Set(file.calibrated ?? []);
  const missing = Array.from({ length: net.widths }, (_, k) => k).filter((k) => !calibrated.has(k));
  if (net.norms.some((norm) => norm.kind === "bn") && missing.length > 0) {
    throw new UncalibratedError(
      `${model}: widths ${missing.join(", ")} have no measured norm statistics, so they cannot be evaluated. ` +
        "It is a checkpoint of an unfinished run: finish it with dsnet train --resume.",
    );
  }
  if (routes > 0 && net.gates.length < 2) {
    throw new UsageError(`routes: ${file.model.name} has ${net.gates.length} gates, only several make routes to draw`);
  }
  const channels = net.spec.input.channels;
  const opened = await openData(data, { channels, ...(options.onWarning && { onWarning: options.onWarning }) });
  const dataset = opened[split];
  if (dataset.classNames.join("\n") !== file.classes.join("\n")) {
    throw new DataError(
      `${data}: expected the model's classes (${short(file.classes)}), got ${short(dataset.classNames)}`,
    );
  }
  const loader = openLoader(dataset, { batchSize, input: file.preprocessing, workers });
  let backend: Backend | undefined;
  try {
    backend = await openBackend({ device, threads });
    const span = allocSpan(backend, net.layout.floats);
    readState(backend, net, span, selectTensors(file.tensors, "parameters"));
    const measured = await measure(backend, net, span, loader.inOrder(), {
      batch: batchSize,
      dynamic: file.candidates.length > 0,
      largest: !net.largestIsNumbered && calibrated.has("largest"),
      routes,
      onProgress: (images) => options.onProgress?.(images, dataset.length),
    });
    const { labels, widths, largest, dynamic, routes: drawn } = measured;
    return evaluate({
      labels,
      classNames: file.classes,
      widths,
      ...(largest === undefined ? {} : { largest }),
      ...(dynamic === undefined ? {} : { dynamic }),
      ...(drawn === undefined ? {} : { routes: drawn }),
      ...(file.cascade === undefined ? {} : { cascade: file.cascade }),
      sharedMadds: maddsBeforeGate(net),
    });
  } finally {
    await loader.close();
    backend?.dispose();
  }
}

function short(names: readonly string[]): string {
  const shown = names.slice(0, 4).join(", ");
  return `${names.length}: ${shown}${names.length > 4 ? ", ..." : ""}`;
}
