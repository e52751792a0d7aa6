/**
 * Stage II on a cached GateSet, in double: with everything but the slimming head frozen and one gate, an image is its features
 * and what each candidate makes of it. No straight-through, no masks, no noise.
 *
 * The head learns on standardised features; `fold` makes it one for the features as they are.
 */
import { Philox } from "../random/philox.js";
import type { GateConfig } from "./config.js";
import { gateLoss, probabilityLoss, sigmoid } from "./gate-loss.js";
import type { GateSet } from "./gate-set.js";

/** A layer of the slimming head: weight [out][in]. ReLU lies between layers. */
export interface HeadLayer {
  weight: Float32Array;
  bias: Float32Array | null;
  /** SGD's buffers. */
  weightMomentum: Float32Array;
  biasMomentum: Float32Array | null;
  out: number;
  in: number;
}

interface CachedOptions {
  config: GateConfig;
  /** Whole-network MAdds of each candidate. */
  madds: readonly number[];
  seed: number;
  batchSize: number;
  /** SGD's momentum, Nesterov. */
  momentum: number;
}

/**
 * Mean and deviation of each feature. Without a bias to take up the shift, the mean counts as 0. What hardly ever differs would be
 * blown up by its deviation, and get weights to match: it counts as constant, of infinite deviation.
 */
export interface Standard {
  mean: Float64Array;
  deviation: Float64Array;
}

/** Share of the largest deviation up to which a feature counts as constant. */
const CONSTANT = 1e-3;

export function standardOf(set: GateSet, centred: boolean): Standard {
  const mean = new Float64Array(set.width);
  const deviation = new Float64Array(set.width);
  for (let i = 0; centred && i < set.features.length; i++) mean[i % set.width]! += set.features[i]! / set.images;
  for (let i = 0; i < set.features.length; i++) {
    deviation[i % set.width]! += (set.features[i]! - mean[i % set.width]!) ** 2 / set.images;
  }
  const least = CONSTANT ** 2 * deviation.reduce((a, b) => Math.max(a, b), 0);
  return { mean, deviation: deviation.map((variance) => (variance > least ? Math.sqrt(variance) : Infinity)) };
}

/** The set with standardised features; all else is shared. */
export function standardised(set: GateSet, { mean, deviation }: Standard): GateSet {
  const d = set.width;
  return { ...set, features: set.features.map((x, i) => (x - mean[i % d]!) / deviation[i % d]!) };
}

/** Changes the first layer, learnt on standardised features, into one that reads them raw. */
export function fold(first: HeadLayer, { mean, deviation }: Standard): void {
  for (let o = 0; o < first.out; o++) {
    for (let i = 0; i < first.in; i++) {
      const w = first.weight[o * first.in + i]! / deviation[i]!;
      first.weight[o * first.in + i] = w;
      if (first.bias !== null) first.bias[o]! -= w * mean[i]!;
    }
  }
}

/** Activations of every layer for some images, [layer][row][channel]; the last are the head's outputs. */
function forward(layers: readonly HeadLayer[], set: GateSet, rows: readonly number[]): Float64Array[] {
  const first = new Float64Array(rows.length * set.width);
  rows.forEach((row, i) => {
    first.set(set.features.subarray(row * set.width, (row + 1) * set.width), i * set.width);
  });
  const values = [first];
  layers.forEach((layer, at) => {
    const x = values[at]!;
    const y = new Float64Array(rows.length * layer.out);
    for (let r = 0; r < rows.length; r++) {
      for (let o = 0; o < layer.out; o++) {
        let sum = layer.bias?.[o] ?? 0;
        for (let i = 0; i < layer.in; i++) sum += layer.weight[o * layer.in + i]! * x[r * layer.in + i]!;
        y[r * layer.out + o] = at < layers.length - 1 ? Math.max(sum, 0) : sum;
      }
    }
    values.push(y);
  });
  return values;
}

/** Scores of the first `count` images, [image][candidate]. */
export function headScores(
  layers: readonly HeadLayer[],
  set: GateSet,
  method: GateConfig["method"],
  count = set.images,
): Float64Array {
  const outputs = forward(
    layers,
    set,
    Array.from({ length: count }, (_, i) => i),
  ).at(-1)!;
  return method === "probability" ? outputs.map(sigmoid) : outputs;
}

/** One epoch over the set in the order that (seed, epoch) gives. Changes the layers; returns the mean losses. */
export function cachedEpoch(
  layers: readonly HeadLayer[],
  set: GateSet,
  epoch: number,
  lr: number,
  options: CachedOptions,
): Record<string, number> {
  const { config, madds, seed } = options;
  const order = Array.from({ length: set.images }, (_, i) => i);
  new Philox(seed, epoch, "gate order").shuffle(order);
  const sum: Record<string, number> = {};
  for (let from = 0; from < order.length; from += options.batchSize) {
    const rows = order.slice(from, from + options.batchSize);
    const values = forward(layers, set, rows);
    const gradient = new Float64Array(rows.length * madds.length);
    const outputs = values.at(-1)!;
    const losses =
      config.method === "probability"
        ? { task: probabilityLoss(outputs, rows, set, madds.length, gradient) }
        : gateLoss(outputs, rows, set, madds, config, gradient);
    const share = rows.length / order.length;
    for (const [key, loss] of Object.entries(losses)) sum[key] = (sum[key] ?? 0) + loss * share;
    backward(layers, values, gradient, rows.length, lr, options);
  }
  return sum;
}

/** Gradients of all layers, and an SGD step on each once its own gradient has been passed on. */
function backward(
  layers: readonly HeadLayer[],
  values: readonly Float64Array[],
  scores: Float64Array,
  rows: number,
  lr: number,
  { config, momentum }: CachedOptions,
): void {
  let dy = scores;
  for (let at = layers.length - 1; at >= 0; at--) {
    const layer = layers[at]!;
    const x = values[at]!;
    const dx = new Float64Array(rows * layer.in);
    const dw = new Float64Array(layer.weight.length);
    const db = new Float64Array(layer.out);
    for (let r = 0; r < rows; r++) {
      for (let o = 0; o < layer.out; o++) {
        const g = dy[r * layer.out + o]!;
        db[o]! += g;
        for (let i = 0; i < layer.in; i++) {
          dw[o * layer.in + i]! += g * x[r * layer.in + i]!;
          dx[r * layer.in + i]! += g * layer.weight[o * layer.in + i]!;
        }
      }
    }
    sgd(layer.weight, dw, layer.weightMomentum, lr, momentum, config.weight_decay);
    if (layer.bias !== null) sgd(layer.bias, db, layer.biasMomentum!, lr, momentum, 0);
    dy = dx.map((g, i) => (x[i]! > 0 ? g : 0));
  }
}

function sgd(p: Float32Array, g: Float64Array, m: Float32Array, lr: number, momentum: number, decay: number): void {
  for (let i = 0; i < p.length; i++) {
    const slope = g[i]! + decay * p[i]!;
    m[i] = momentum * m[i]! + slope;
    p[i]! -= lr * (slope + momentum * m[i]!);
  }
}
