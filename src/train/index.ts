/** `dsnet/train`: train a network in both stages, evaluate and calibrate one. Node only. */
export { type CalibrateOptions, type CalibrateResult, calibrate } from "./calibrate-node.js";
export type { AugmentConfig, GateConfig, TrainConfig } from "./config.js";
export { defaultConfig } from "./defaults.js";
export type { Stage, TrainEvent, TrainResult } from "./events.js";
export type { LabelledOptions } from "./labelled-node.js";
export { type TrainOptions, train } from "./train-node.js";
export { type ValOptions, val } from "./val-node.js";
