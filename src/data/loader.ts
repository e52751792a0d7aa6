/**
 * Batches of a dataset, for training (shuffled, augmented, resumable at any step) and for evaluation (in order, as they are).
 * Which images come when, and every bit of them, depends on (dataset, seed, epoch, step) alone: not on threads or timing.
 */
import { DataError, UsageError } from "../errors.js";
import type { Preprocessing } from "../image/preprocess.js";
import { Philox } from "../random/philox.js";
import type { AugmentConfig } from "../train/config.js";
import { type Batch, type BatchJob, type BatchMaker, type BatchResult, type BatchSetup, localMaker } from "./batch.js";
import { CachedDataset } from "./cached.js";
import type { Dataset } from "./dataset.js";

export interface LoaderOptions {
  batchSize: number;
  /** Size, channels and normalisation of the model's input. */
  input: Preprocessing;
  /** Default null: training images are only preprocessed. */
  augment?: AugmentConfig | null;
  seed?: number;
  /** Most of the dataset that may be broken, as a share; beyond it `DataError`. Default 0.01. */
  maxBroken?: number;
  /** Told of each broken image, once. */
  onWarning?: (message: string) => void;
  /** Encoded images of the input's size are kept decoded if they all fit in this many bytes. Default 512 MiB. */
  cacheBytes?: number;
}

export interface TrainingPass {
  /** First step, to resume inside an epoch: earlier ones cost nothing. Default 0. */
  from?: number;
  /** Preprocess without augmentation, as for recalibration. Default false. */
  clean?: boolean;
  signal?: AbortSignal;
}

export class Loader {
  readonly dataset: Dataset;
  /** Full batches in an epoch: an incomplete last one is left out of training (other images in every epoch). */
  readonly steps: number;
  /** Images in a full batch. */
  readonly batchSize: number;
  readonly #setup: BatchSetup;
  readonly #onWarning: (message: string) => void;
  readonly #maker: BatchMaker;
  readonly #ahead: number;
  readonly #broken = new Map<number, string>();

  /**
   * `maker` makes the batches, by default in this thread; `ahead` is how many it has in hand, the one awaited included.
   * In Node, `openLoader` makes a loader with worker threads.
   */
  constructor(
    dataset: Dataset,
    options: LoaderOptions,
    maker: (dataset: Dataset, setup: BatchSetup) => BatchMaker = localMaker,
    ahead = 1,
  ) {
    const {
      batchSize,
      input,
      augment = null,
      seed = 0,
      maxBroken = 0.01,
      onWarning = () => {},
      cacheBytes = 2 ** 29,
    } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw new UsageError(`batchSize: expected 1 or more, got ${batchSize}`);
    if (!(maxBroken >= 0 && maxBroken <= 1)) throw new UsageError(`maxBroken: expected 0 to 1, got ${maxBroken}`);
    if (dataset.length === 0) throw new DataError(`${dataset.name} has no images`);

    const decoded = dataset.length * input.height * input.width * dataset.channels;
    this.dataset = dataset.size === null && decoded <= cacheBytes ? new CachedDataset(dataset, input) : dataset;
    this.steps = Math.floor(dataset.length / batchSize);
    this.batchSize = batchSize;
    this.#setup = { input, augment, seed, maxBroken };
    this.#onWarning = onWarning;
    this.#maker = maker(this.dataset, this.#setup);
    this.#ahead = ahead;
  }

  /** One epoch of training: every image once, shuffled, in full batches. A broken image is replaced, see `BatchJob`. */
  batches(epoch: number, { from = 0, clean = false, signal }: TrainingPass = {}): AsyncGenerator<Batch, void, void> {
    const { steps } = this;
    if (steps === 0) {
      throw new DataError(
        `${this.dataset.name}: ${this.dataset.length} images give no full batch of ${this.batchSize}`,
      );
    }
    if (!Number.isInteger(from) || from < 0 || from > steps) {
      throw new UsageError(`batches: an epoch has ${steps} steps, cannot start at step ${from}`);
    }
    const order = Int32Array.from({ length: this.dataset.length }, (_, i) => i);
    new Philox(this.#setup.seed, epoch, "order").shuffle(order);
    const job = (step: number): BatchJob => ({
      indices: order.slice(step * this.batchSize, (step + 1) * this.batchSize),
      epoch: clean ? null : epoch,
      broken: "replace",
    });
    return this.#run(from, steps, job, signal);
  }

  /** The whole dataset once, in order, without augmentation. The last batch may be smaller; broken images are left out. */
  inOrder({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Batch, void, void> {
    const { length } = this.dataset;
    const job = (step: number): BatchJob => {
      const first = step * this.batchSize;
      const size = Math.min(this.batchSize, length - first);
      return { indices: Int32Array.from({ length: size }, (_, i) => first + i), epoch: null, broken: "drop" };
    };
    return this.#run(0, Math.ceil(length / this.batchSize), job, signal);
  }

  /** Ends the worker threads. Batches that were asked for reject. */
  close(): Promise<void> {
    return this.#maker.close();
  }

  /** Hands out the jobs of steps [from, to), at most `ahead` at a time, and yields their batches in order. */
  async *#run(
    from: number,
    to: number,
    job: (step: number) => BatchJob,
    signal?: AbortSignal,
  ): AsyncGenerator<Batch, void, void> {
    const inHand: Promise<BatchResult>[] = [];
    for (let step = from, next = from; step < to; step++) {
      signal?.throwIfAborted();
      for (; next < to && inHand.length < this.#ahead; next++) {
        const result = this.#maker.make(job(next));
        result.catch(() => {}); // met when awaited; a pass that was left early awaits no more
        inHand.push(result);
      }
      const { batch, broken } = await unlessAborted(inHand.shift()!, signal);
      this.#note(broken);
      await turn();
      if (batch && batch.size > 0) yield batch;
    }
  }

  /** Counts broken images; results arrive in step order, so what is reported does not depend on threads either. */
  #note(broken: BatchResult["broken"]): void {
    for (const { index, message } of broken) {
      if (this.#broken.has(index)) continue;
      this.#broken.set(index, message);
      this.#onWarning(`broken image: ${message}`);
    }
    const count = this.#broken.size;
    const { maxBroken } = this.#setup;
    if (count / this.dataset.length > maxBroken || count === this.dataset.length) {
      const first = [...this.#broken.values()].slice(0, 5).join("\n  ");
      throw new DataError(
        `${this.dataset.name}: ${count} of ${this.dataset.length} images are broken (so far), more than the share of ${maxBroken} that max_broken allows:\n  ${first}`,
      );
    }
  }
}

/** Lets signals and timers in: promises alone, and the kernels' calls, would keep them out for a whole pass. */
function turn(): Promise<void> {
  return new Promise((resolve) => void (globalThis.setImmediate ?? setTimeout)(resolve));
}

/** `promise`, or a rejection as soon as `signal` is aborted. */
async function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
