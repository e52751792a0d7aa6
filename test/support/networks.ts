/** Small networks of every kind that a table can describe, with random weights, for laws that hold without a reference. */
import type { Backend } from "../../src/backend/backend.js";
import type { Supernet } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { allocSpan, initState } from "../../src/models/state.js";
import { Philox } from "../../src/random/philox.js";

const base = {
  act: "swish",
  norm: "bn",
  attention: 0.25,
  residual: false,
  classes: 5,
  candidates: null,
} as const satisfies Partial<ModelSpec>;

export const smallSpecs: readonly ModelSpec[] = [
  {
    ...base,
    description: "separable, two widths before the gate",
    input: { height: 16, width: 16, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [8, 12] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [8, 16] },
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: [16, 20, 24, 40], gates: [0] },
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [24, 28, 36, 48] },
    ],
  },
  {
    ...base,
    description: "inverted and separable, residual, activation after the sum, odd image",
    input: { height: 15, width: 15, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [4, 6] },
    stages: [
      { block: "inverted", repeat: 1, kernel: 3, stride: 2, widths: [4, 8], expansion: 4 },
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [8, 12] },
      { block: "inverted", repeat: 2, kernel: 3, stride: 2, widths: [8, 12, 16], gates: [0], expansion: 4 },
      { block: "inverted", repeat: 1, kernel: 3, stride: 2, widths: [12, 16, 24], expansion: 3 },
    ],
    residual: true,
    actAfterSum: true,
  },
  {
    ...base,
    description: "ReLU, 5×5 and 7×7 kernels, grey, odd widths, image not square, window of candidates",
    input: { height: 13, width: 20, channels: 1 },
    stem: { kernel: 7, stride: 1, widths: [5] },
    stages: [
      { block: "separable", repeat: 1, kernel: 5, stride: 2, widths: [7] },
      { block: "separable", repeat: 2, kernel: 5, stride: 1, widths: [9, 13, 17, 33, 47], gates: [0] },
      { block: "inverted", repeat: 1, kernel: 5, stride: 2, widths: [11, 19, 23, 31, 35] },
    ],
    act: "relu",
    candidates: [1, 2, 4],
  },
  {
    ...base,
    description: "group norm, two gates, the second past the first block of its stage",
    input: { height: 12, width: 12, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [8] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [16, 24, 40], gates: [0] },
      { block: "separable", repeat: 3, kernel: 3, stride: 2, widths: [24, 32, 48], gates: [1] },
    ],
    norm: "gn",
  },
  {
    ...base,
    description: "group norm whose last group is smaller, ReLU, residual",
    input: { height: 9, width: 9, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [6, 10] },
    stages: [
      { block: "separable", repeat: 2, kernel: 3, stride: 1, widths: [12, 21, 36], gates: [0] },
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [20, 28, 44] },
    ],
    norm: "gn",
    act: "relu",
    residual: true,
  },
  {
    ...base,
    description: "three gates with a hidden layer, residual, activation after the sum, batch norm",
    input: { height: 14, width: 14, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [8] },
    stages: [
      { block: "inverted", repeat: 2, kernel: 3, stride: 1, widths: [8, 12, 20], gates: [0], expansion: 3 },
      { block: "separable", repeat: 2, kernel: 3, stride: 2, widths: [12, 20, 28], gates: [0] },
      { block: "inverted", repeat: 1, kernel: 5, stride: 2, widths: [20, 24, 36], gates: [0], expansion: 2 },
    ],
    residual: true,
    actAfterSum: true,
    gate: { hidden: 12, bias: true },
  },
  {
    ...base,
    description: "a single width behind the gate",
    input: { height: 8, width: 8, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [8] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [8, 16], gates: [0] },
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [24] },
    ],
  },
  { ...modelSpec("ds_mbnet_28"), description: "ds_mbnet_28" },
  {
    ...base,
    description: "bottlenecks, max pool, four gates, two of them where the residual stream goes on",
    input: { height: 18, width: 18, channels: 3 },
    stem: { kernel: 7, stride: 2, widths: [8], pool: true },
    stages: [
      { block: "bottleneck", repeat: 2, kernel: 3, stride: 1, widths: [12, 20, 28], gates: [0], squeeze: 6 },
      { block: "bottleneck", repeat: 4, kernel: 3, stride: 2, widths: [16, 28, 40], gates: [0, 1, 3], squeeze: 10 },
    ],
    act: "relu",
    residual: true,
  },
  {
    ...base,
    description: "bottlenecks, group norm, three gates, the last within a stage that another follows",
    input: { height: 12, width: 12, channels: 3 },
    stem: { kernel: 3, stride: 1, widths: [16] },
    stages: [
      { block: "bottleneck", repeat: 3, kernel: 3, stride: 2, widths: [32, 64, 96], gates: [0, 1], squeeze: 16 },
      { block: "bottleneck", repeat: 2, kernel: 3, stride: 1, widths: [64, 96, 128], gates: [1], squeeze: 16 },
      { block: "conv", repeat: 1, kernel: 1, stride: 1, widths: [40] },
    ],
    act: "relu",
    norm: "gn",
    residual: true,
    gate: { hidden: 8, bias: true },
  },
  {
    ...base,
    description: "bottlenecks, batch norm, a stage that takes over a stream which two gates made",
    input: { height: 12, width: 12, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [8] },
    stages: [
      { block: "bottleneck", repeat: 2, kernel: 3, stride: 1, widths: [12, 20, 28], gates: [0, 1], squeeze: 24 },
      { block: "bottleneck", repeat: 2, kernel: 3, stride: 2, widths: [16, 28, 40], gates: [0, 1], squeeze: 24 },
    ],
    act: "relu",
    residual: true,
  },
  {
    ...base,
    description: "inverted, residual only where nothing changes, nothing to expand at first, convolution at last",
    input: { height: 14, width: 14, channels: 3 },
    stem: { kernel: 3, stride: 2, widths: [10] },
    stages: [
      { block: "inverted", repeat: 1, kernel: 3, stride: 1, widths: [6], expansion: 1 },
      { block: "inverted", repeat: 2, kernel: 3, stride: 1, widths: [8], expansion: 3 },
      { block: "inverted", repeat: 3, kernel: 3, stride: 2, widths: [8, 12, 20], gates: [0], expansion: 6 },
      { block: "conv", repeat: 1, kernel: 1, stride: 1, widths: [48] },
    ],
    act: "relu",
    residual: "identity",
  },
  {
    ...base,
    description: "no attention: the gate reads the pooled activation",
    input: { height: 12, width: 12, channels: 1 },
    stem: { kernel: 3, stride: 1, widths: [10] },
    stages: [
      { block: "separable", repeat: 1, kernel: 3, stride: 2, widths: [20] },
      { block: "inverted", repeat: 2, kernel: 3, stride: 1, widths: [8, 12, 20], gates: [0], expansion: 3 },
    ],
    attention: 0,
    gate: { hidden: 6, bias: true },
  },
];

/** The width changes within a stage, where the residual sum adds a narrower input. */
export const gateWithin: ModelSpec = {
  description: "first gate past the first block of its stage, residual",
  input: { height: 12, width: 12, channels: 3 },
  stem: { kernel: 3, stride: 1, widths: [6, 10] },
  stages: [
    { block: "separable", repeat: 1, kernel: 3, stride: 1, widths: [8, 12] },
    { block: "inverted", repeat: 4, kernel: 3, stride: 2, widths: [8, 12, 20, 28], gates: [2], expansion: 3 },
    { block: "separable", repeat: 2, kernel: 3, stride: 1, widths: [12, 20, 28, 36], gates: [0] },
  ],
  act: "swish",
  norm: "bn",
  attention: 0.5,
  residual: true,
  classes: 5,
  candidates: null,
};

/** Weights as a training starts with, but nothing is left at 0 or 1: biases, norms and statistics are random too. */
export function randomSpan(backend: Backend, net: Supernet, seed: number): number {
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, seed);
  for (const param of net.layout.params) {
    if (param.kind !== "vector") continue;
    const random = new Philox(seed, "vector", param.name);
    const middle = param.name.endsWith(".weight") || param.name.endsWith("running_var") ? 1 : 0;
    const values = Float32Array.from({ length: param.size }, () => middle + random.float() - 0.5);
    param.pack(values, backend.f32.subarray(param.in(span) / 4, param.in(span) / 4 + param.floats));
  }
  return span;
}

/** n images (n, h, w, c) of the network's input size, each of another contrast. */
export function randomImages(spec: ModelSpec, n: number, seed: number): Float32Array {
  const { height, width, channels } = spec.input;
  const random = new Philox(seed, "images");
  const size = height * width * channels;
  return Float32Array.from({ length: n * size }, (_, i) => random.normal() * (0.3 + 0.4 * (Math.floor(i / size) % 4)));
}
