/** A worker thread of the loader: makes the batches it is asked for. Started by loader-node.ts, never imported. */
import { parentPort, workerData } from "node:worker_threads";
import { type BatchJob, type BatchResult, type BatchSetup, localMaker } from "./batch.js";
import { restore, type SharedDataset } from "./share-node.js";

export interface WorkerStart {
  dataset: SharedDataset;
  setup: BatchSetup;
}
export interface WorkerRequest {
  id: number;
  job: BatchJob;
}
export type WorkerReply = { id: number } & ({ result: BatchResult } | { error: unknown });

const { dataset, setup } = workerData as WorkerStart;
const maker = localMaker(restore(dataset), setup);
const port = parentPort!;

port.on("message", async ({ id, job }: WorkerRequest) => {
  try {
    const result = await maker.make(job);
    const reply: WorkerReply = { id, result };
    port.postMessage(reply, result.batch ? [result.batch.images.buffer as ArrayBuffer] : []);
  } catch (error) {
    port.postMessage({ id, error } satisfies WorkerReply);
  }
});
