/** Datasets across threads: to plain data that a message can carry (images stay where they are, in shared memory or files) and back. */
import { UsageError } from "../errors.js";
import { CachedDataset } from "./cached.js";
import { type Dataset, type MemoryData, MemoryDataset, Subset } from "./dataset.js";
import { type EncodedData, EncodedDataset } from "./encoded-node.js";

export type SharedDataset =
  | { kind: "memory"; data: MemoryData }
  | { kind: "encoded"; data: EncodedData }
  | { kind: "subset"; base: SharedDataset; indices: Int32Array }
  | {
      kind: "cached";
      base: SharedDataset;
      cached: { height: number; width: number };
      store: Uint8Array;
      filled: Uint8Array;
    };

export function share(dataset: Dataset): SharedDataset {
  if (dataset instanceof MemoryDataset) {
    const { name, data, size, channels, labels, classNames } = dataset;
    return { kind: "memory", data: { name, data, ...size, channels, labels, classNames } };
  }
  if (dataset instanceof EncodedDataset) return { kind: "encoded", data: dataset.data };
  if (dataset instanceof Subset) return { kind: "subset", base: share(dataset.base), indices: dataset.indices };
  if (dataset instanceof CachedDataset) {
    const { base, cached, store, filled } = dataset;
    return { kind: "cached", base: share(base), cached: { height: cached.height, width: cached.width }, store, filled };
  }
  throw new UsageError(`${dataset.name}: a dataset of one's own cannot be handed to worker threads: use workers: 0`);
}

export function restore(shared: SharedDataset): Dataset {
  switch (shared.kind) {
    case "memory":
      return new MemoryDataset(shared.data);
    case "encoded":
      return new EncodedDataset(shared.data);
    case "subset":
      return new Subset(restore(shared.base), shared.indices);
    case "cached":
      return new CachedDataset(restore(shared.base), shared.cached, shared.store, shared.filled);
  }
}
