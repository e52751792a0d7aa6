/** `dsnet/train`: train a network in both stages, and evaluate one. Node only. */
export type { AugmentConfig, GateConfig, TrainConfig } from "./config.js";
export { defaultConfig } from "./defaults.js";
export type { Stage, TrainEvent, TrainResult } from "./events.js";
export { type TrainOptions, train } from "./train-node.js";
export { type ValOptions, val } from "./val-node.js";
