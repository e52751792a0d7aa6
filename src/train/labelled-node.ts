/** A model file with labelled images to run it on: what evaluating and calibrating start from. */
import type { Backend, Precision } from "../backend/backend.js";
import { openBackend } from "../backend/open.js";
import type { Dataset } from "../data/dataset.js";
import type { Loader } from "../data/loader.js";
import { openLoader } from "../data/loader-node.js";
import { openData, type Splits } from "../data/open-node.js";
import { DataError, UncalibratedError, UsageError } from "../errors.js";
import type { ModelFile } from "../io/model-file.js";
import { readModelFile } from "../io/model-file-node.js";
import type { Supernet } from "../models/build.js";
import { networkOf } from "../models/file.js";
import { loadSpan } from "../models/state.js";

export interface LabelledOptions {
  /** Folder, archive, or `mnist`. */
  data: string;
  /** Which part of the data: `val` (the default), `train`, or what a function picks. */
  split?: string | ((data: Splits) => Dataset);
  /** Images a call of the engine. Default 100. */
  batchSize?: number;
  device?: "auto" | "native" | "wasm";
  threads?: number;
  /** Default fp32. */
  precision?: Precision;
  workers?: number;
  onProgress?: (images: number, total: number) => void;
  onWarning?: (message: string) => void;
}

export interface Labelled {
  file: ModelFile;
  net: Supernet;
  backend: Backend;
  /** The weights. */
  span: number;
  loader: Loader;
}

/**
 * Opens both, runs `use` and closes them. Throws UncalibratedError where norm statistics of a width were never measured,
 * DataError where the images have other classes than the model.
 */
export async function withLabelled<T>(
  model: string,
  options: LabelledOptions,
  use: (opened: Labelled) => Promise<T>,
): Promise<T> {
  const {
    data,
    split = "val",
    batchSize = 100,
    device = "auto",
    threads = 0,
    precision = "fp32",
    workers = 0,
  } = options;
  if (typeof split === "string" && split !== "val" && split !== "train") {
    throw new UsageError(`split: expected val or train, got ${split}`);
  }
  const file = await readModelFile(model);
  const net = networkOf(file, precision);
  const calibrated = new Set(file.calibrated ?? []);
  const missing = Array.from({ length: net.widths }, (_, k) => k).filter((k) => !calibrated.has(k));
  if (net.norms.some((norm) => norm.kind === "bn") && missing.length > 0) {
    throw new UncalibratedError(
      `${model}: widths ${missing.join(", ")} have no measured norm statistics, so they cannot be evaluated. ` +
        "It is a checkpoint of an unfinished run: finish it with dsnet train --resume.",
    );
  }
  const channels = net.spec.input.channels;
  const opened = await openData(data, { channels, ...(options.onWarning && { onWarning: options.onWarning }) });
  const dataset = typeof split === "string" ? opened[split as keyof Splits] : split(opened);
  if (!fits(dataset.classNames, file.classes)) {
    throw new DataError(
      `${data}: expected the model's classes (${short(file.classes)}), got ${short(dataset.classNames)}`,
    );
  }
  const loader = openLoader(dataset, { batchSize, input: file.preprocessing, workers });
  let backend: Backend | undefined;
  try {
    backend = await openBackend({ device, threads, precision });
    const span = loadSpan(backend, net, file.tensors);
    return await use({ file, net, backend, span, loader });
  } finally {
    await loader.close();
    backend?.dispose();
  }
}

/** Data without names (IDX) numbers its classes, which says only how many there are: a model may have named them. */
function fits(data: readonly string[], model: readonly string[]): boolean {
  if (data.length !== model.length) return false;
  return data.every((name, i) => name === model[i]) || data.every((name, i) => name === String(i));
}

function short(names: readonly string[]): string {
  const shown = names.slice(0, 4).join(", ");
  return `${names.length}: ${shown}${names.length > 4 ? ", ..." : ""}`;
}
