/** What a model consists of and what each width costs, as data for `dsnet inspect`. */

import { UsageError } from "../errors.js";
import type { Routing } from "../io/model-file.js";
import { build } from "../models/build.js";
import { listModels, modelSpec } from "../models/registry.js";
import { type ModelSpec, widthCount } from "../models/spec.js";
import { type LayerCost, layerCosts, madds, parameterCount } from "./madds.js";

export interface ModelSummary {
  name: string;
  inputSize: number;
  channels: number;
  /** How many numbered widths. */
  widths: number;
  description: string;
}

export interface ModelDescription {
  name: string;
  inputSize: number;
  channels: number;
  classes: number;
  stages: {
    name: string;
    block: string;
    repeat: number;
    stride: number;
    /** Output pixels along a side. */
    size: number;
    widths: number[];
    /** How many of the blocks hold one. */
    gates: number;
  }[];
  /** Cheapest first; `largest` last where it is wider than the highest number. */
  widths: { width: number | "largest"; parameters: number; madds: number }[];
  /** How a trained model with gates chooses among them. */
  routing?: Routing;
  /** At the width that was asked for. */
  layers?: LayerCost[];
}

export function registrySummaries(): ModelSummary[] {
  return listModels().map((name) => {
    const spec = modelSpec(name);
    const { height, channels } = spec.input;
    return { name, inputSize: height, channels, widths: widthCount(spec), description: spec.description };
  });
}

export function describeSpec(name: string, spec: ModelSpec, layersAt?: number | "largest"): ModelDescription {
  const net = build(spec);
  if (typeof layersAt === "number" && !(Number.isInteger(layersAt) && layersAt >= 0 && layersAt < net.widths)) {
    throw new UsageError(`width: expected 0 to ${net.widths - 1} or largest, got ${layersAt}`);
  }
  const slots: (number | "largest")[] = Array.from({ length: net.widths }, (_, k) => k);
  if (!net.largestIsNumbered) slots.push("largest");
  let size = Math.ceil(spec.input.height / spec.stem.stride);
  const pool = spec.stem.pool === true;
  if (pool) size = Math.ceil(size / 2);
  const conv = `conv ${spec.stem.kernel}×${spec.stem.kernel}`;
  const stem = { name: "stem", block: pool ? `${conv}, max pool` : conv, repeat: 1, gates: 0 };
  return {
    name,
    inputSize: spec.input.height,
    channels: spec.input.channels,
    classes: spec.classes,
    stages: [
      { ...stem, stride: spec.stem.stride * (pool ? 2 : 1), size, widths: spec.stem.widths },
      ...spec.stages.map((stage, i) => {
        size = Math.ceil(size / stage.stride);
        return {
          name: `stage ${i}`,
          block: `${stage.block} ${stage.kernel}×${stage.kernel}`,
          repeat: stage.repeat,
          stride: stage.stride,
          size,
          widths: stage.widths,
          gates: (stage.gates ?? []).length,
        };
      }),
    ],
    widths: slots.map((width) => ({ width, parameters: parameterCount(net, width), madds: madds(net, width) })),
    ...(layersAt === undefined ? {} : { layers: layerCosts(net, layersAt) }),
  };
}
