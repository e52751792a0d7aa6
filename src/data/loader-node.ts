/** The loader with worker threads. */
import { Worker } from "node:worker_threads";
import { DataError, UsageError } from "../errors.js";
import { type BatchJob, type BatchMaker, type BatchResult, type BatchSetup, localMaker } from "./batch.js";
import type { Dataset } from "./dataset.js";
import { Loader, type LoaderOptions } from "./loader.js";
import { share } from "./share-node.js";
import type { WorkerReply, WorkerRequest, WorkerStart } from "./worker-node.js";

/**
 * A loader whose batches are made by `workers` threads, one batch a thread and one more in hand; 0: in the main thread, when
 * asked for. The batches are the same. `close()` it at the end; idle threads do not keep the process alive.
 */
export function openLoader(dataset: Dataset, { workers, ...options }: LoaderOptions & { workers: number }): Loader {
  if (!Number.isInteger(workers) || workers < 0) throw new UsageError(`workers: expected 0 or more, got ${workers}`);
  return workers === 0
    ? new Loader(dataset, options)
    : new Loader(dataset, options, (held, setup) => workerMaker(held, setup, workers), workers + 1);
}

interface Pending {
  resolve(result: BatchResult): void;
  reject(reason: unknown): void;
}

interface Seat {
  worker: Worker;
  pending: Map<number, Pending>;
}

function workerMaker(dataset: Dataset, setup: BatchSetup, count: number): BatchMaker {
  localMaker(dataset, setup); // wrong settings are refused here, not in a thread
  const workerData: WorkerStart = { dataset: share(dataset), setup };
  let stopped: Error | null = null;
  let lastId = 0;

  const seats: Seat[] = Array.from({ length: count }, () => {
    const worker = new Worker(new URL("./worker-node.js", import.meta.url), {
      workerData,
      execArgv: [], // flags for the main script, --input-type above all, would stop a thread from starting
    });
    const pending = new Map<number, Pending>();
    worker.on("message", (reply: WorkerReply) => {
      const asked = pending.get(reply.id);
      if (!asked) return; // given up meanwhile
      pending.delete(reply.id);
      if (pending.size === 0) worker.unref();
      if ("error" in reply) asked.reject(reply.error);
      else asked.resolve(reply.result);
    });
    worker.on("error", (error) => stop(new DataError(`A data worker stopped: ${error.message}`, { cause: error })));
    worker.on("exit", (code) => stop(new DataError(`A data worker ended with code ${code}`)));
    worker.unref();
    return { worker, pending };
  });

  function stop(reason: Error): void {
    if (stopped) return;
    stopped = reason;
    for (const { worker, pending } of seats) {
      for (const { reject } of pending.values()) reject(reason);
      pending.clear();
      worker.unref();
    }
  }

  async function make(job: BatchJob): Promise<BatchResult> {
    if (stopped) throw stopped;
    const { worker, pending } = seats.reduce((a, b) => (b.pending.size < a.pending.size ? b : a));
    const id = ++lastId;
    worker.ref();
    return new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject });
      worker.postMessage({ id, job } satisfies WorkerRequest);
    });
  }

  async function close(): Promise<void> {
    stop(new UsageError("The loader is closed"));
    await Promise.all(seats.map(({ worker }) => worker.terminate()));
  }

  return { make, close };
}
