/** `dsnet/data`: open image sets and read them in batches. Node only. */
export type { Batch } from "./batch.js";
export { type Dataset, MemoryDataset, sample, split, subset } from "./dataset.js";
export type { Loader, LoaderOptions, TrainingPass } from "./loader.js";
export { openLoader } from "./loader-node.js";
export { type OpenOptions, openData, type Splits } from "./open-node.js";
