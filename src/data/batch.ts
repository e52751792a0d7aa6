/** From image indices to one batch of input numbers: the work of one step's data, the same in every thread. */
import { FormatError } from "../errors.js";
import { type Pixels, toChannels } from "../image/pixels.js";
import { type Preprocessing, preprocess } from "../image/preprocess.js";
import { coverSize } from "../image/resize.js";
import { Philox } from "../random/philox.js";
import type { AugmentConfig } from "../train/config.js";
import { makeAugment } from "./augment.js";
import type { Dataset } from "./dataset.js";

export interface Batch {
  /** (size, height, width, channels), normalised. The receiver's own. */
  images: Float32Array;
  labels: Int32Array;
  /** Which images of the dataset these are. */
  indices: Int32Array;
  size: number;
}

/** What is the same for every batch. Plain data. */
export interface BatchSetup {
  input: Preprocessing;
  /** null: training images are only preprocessed. */
  augment: AugmentConfig | null;
  seed: number;
  /** A batch in which more than this share of the dataset turns out broken is given up at once. */
  maxBroken: number;
}

export interface BatchJob {
  indices: Int32Array;
  /** Epoch that keys the augmentation; null: preprocess as in evaluation. */
  epoch: number | null;
  /**
   * What becomes of a broken image's place. `replace`: the next good image of the dataset takes it (the first follows the
   * last), a law that asks for no memory of other batches; `drop`: nothing, the batch is smaller.
   */
  broken: "replace" | "drop";
}

export interface BatchResult {
  /** null: given up, too many broken. */
  batch: Batch | null;
  broken: { index: number; message: string }[];
}

/** Makes batches, in this thread or another. Results depend on the job alone. */
export interface BatchMaker {
  make(job: BatchJob): Promise<BatchResult>;
  close(): Promise<void>;
}

/** Throws `UsageError` where the augmentation is not one we know. */
export function localMaker(dataset: Dataset, { input, augment, seed, maxBroken }: BatchSetup): BatchMaker {
  const channels = input.channels as 1 | 3;
  const length = input.height * input.width * channels;
  const distort = augment && makeAugment(augment, input, input);

  async function make(job: BatchJob): Promise<BatchResult> {
    const images = new Float32Array(job.indices.length * length);
    const indices: number[] = [];
    const broken = new Map<number, string>();

    const good = async (i: number): Promise<Pixels | null> => {
      if (broken.has(i)) return null;
      try {
        const pixels = toChannels(await dataset.pixels(i), channels);
        // An image too long to be scaled is a broken one, whatever the augmentation cuts from it.
        coverSize(pixels, Math.ceil(input.height / input.cropPct), Math.ceil(input.width / input.cropPct));
        return pixels;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        broken.set(i, error.message);
        return null;
      }
    };
    const tooMany = () => broken.size / dataset.length > maxBroken;
    const list = () => Array.from(broken, ([index, message]) => ({ index, message }));

    for (const wanted of job.indices) {
      let i = wanted;
      let pixels = await good(i);
      while (!pixels && job.broken === "replace" && !tooMany() && broken.size < dataset.length) {
        i = (i + 1) % dataset.length;
        pixels = await good(i);
      }
      if (tooMany()) return { batch: null, broken: list() };
      if (!pixels) continue;
      const at = indices.length * length;
      if (distort && job.epoch !== null) distort(pixels, new Philox(seed, "augment", job.epoch, i), images, at);
      else images.set(preprocess(pixels, input), at);
      indices.push(i);
    }
    const size = indices.length;
    return {
      batch: {
        images: size < job.indices.length ? images.slice(0, size * length) : images,
        labels: Int32Array.from(indices, (i) => dataset.labels[i]!),
        indices: Int32Array.from(indices),
        size,
      },
      broken: list(),
    };
  }

  return { make, close: async () => {} };
}
