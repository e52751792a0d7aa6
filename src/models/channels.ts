/**
 * Channels that belong together. What a residual sum adds, an attention scales or a depthwise convolution passes on has one
 * order of channels; reordering them in every weight that makes or reads them leaves a network's function as it is. So a
 * network of one width can be sorted: the best channels first, where a narrower width finds them.
 */
import { asFloat32, float32Tensor } from "../io/float32.js";
import type { StoredTensor } from "../io/safetensors.js";
import type { Exec } from "../nn/exec.js";
import type { Norm } from "../nn/layers.js";
import type { Param } from "../nn/parameters.js";
import { channelsAt, type Slot } from "../nn/width.js";
import { GROUP_CHANNELS } from "../ops/norm.js";
import { type Supernet, walkNetwork } from "./build.js";

/** A set of channels with one order; sets that turn out to share theirs are joined. */
class Channels {
  #joined: Channels | null = null;
  /** Counts of the activations that have them: a narrow one that is added to a wide one is its prefix, and stays that. */
  readonly counts = new Set<number>();
  /** Neighbours that only move together: a group norm's. */
  unit = 1;

  get root(): Channels {
    return this.#joined?.root ?? this;
  }

  join(other: Channels): void {
    const [a, b] = [this.root, other.root];
    if (a === b) return;
    for (const count of b.counts) a.counts.add(count);
    a.unit = Math.max(a.unit, b.unit);
    b.#joined = a;
  }
}

/** A convolution as a walk meets it, with what its channels are. */
export interface Layer {
  readonly weight: Param;
  readonly bias: Param | null;
  readonly norm: Norm | null;
  /** Null: a depthwise convolution, which reads each channel for itself. */
  readonly in: Channels | null;
  readonly out: Channels;
  /** The layer whose activation it reads. */
  readonly reads: Layer | null;
  /** Whether that came by way of an attention's factors: a convolution reads the product, no sum does. */
  readonly scaled: boolean;
  /** Its part in an attention, if any. */
  attention: "reduce" | "expand" | null;
}

/** An activation: its channels, the layer that made it, and whether an attention has scaled it since. */
interface Trace {
  readonly channels: Channels;
  readonly layer: Layer | null;
  readonly scaled: boolean;
}

/** The layers that a width uses, in order of execution, without those of the slimming heads. */
export function layersAlong(net: Supernet, slot: Slot): Layer[] {
  const layers: Layer[] = [];
  const note = (x: Trace, layer: Omit<Layer, "reads" | "scaled" | "attention">): Trace => {
    const noted: Layer = { ...layer, reads: x.layer, scaled: x.scaled, attention: null };
    layers.push(noted);
    if (layer.norm?.kind === "gn") layer.out.root.unit = GROUP_CHANNELS;
    return { channels: layer.out, layer: noted, scaled: false };
  };
  const exec: Exec<Trace> = {
    conv: (x, { weight, bias, cout }, norm, _act, at) => {
      const out = new Channels();
      out.counts.add(channelsAt(cout, at.slot));
      return note(x, { weight, bias, norm, in: x.channels, out });
    },
    depthwise: (x, { weight }, norm) => note(x, { weight, bias: null, norm, in: null, out: x.channels }),
    scale: (x, factor) => {
      const expand = factor.layer!;
      expand.attention = "expand";
      expand.reads!.attention = "reduce";
      x.channels.join(factor.channels);
      return { ...x, scaled: true };
    },
    add: (a, b) => {
      a.channels.join(b.channels);
      return a;
    },
    gate: () => slot,
    pool: (x) => x,
    globalPool: (x) => x,
    features: (x) => x,
  };
  const image: Trace = { channels: new Channels(), layer: null, scaled: false };
  walkNetwork(net.steps, exec, image, slot === "largest" ? slot : 0);
  return layers;
}

type Tensors = ReadonlyMap<string, StoredTensor>;

/**
 * The weights of a network of one width with its channels in descending order of importance: the same function, up to the
 * order of sums. Image, logits and the attentions' reduced features keep their order.
 *
 * A channel's importance is how far it moves what reads it: the gain |γ| of its norm, times the L1 norm of the weights that
 * multiply it (by which "Once-for-All", Cai et al. 2020, sorts). The filters' own L1 norm, which is common in pruning, says
 * little where a norm follows that undoes their scale. Top-1 of widths 1 to 4 of a plain ds_mbnet_28 as it was first (0.39 to 4.8 M
 * MAdds) trained on Fashion-MNIST, statistics measured, no further training: 76 82 85 86 %; by L1 norm of the filters 60 82 84 86; as
 * it came 51 72 81 85.
 */
export function sortChannels(net: Supernet, tensors: Tensors): Map<string, StoredTensor> {
  const layers = layersAlong(net, 0);
  const orders = new Map([...importances(layers, tensors)].map(([root, sums]) => [root, descending(sums, root)]));
  const order = (channels: Channels | null) => (channels === null ? undefined : orders.get(channels.root));
  const sorted = new Map(tensors);
  const sort = (param: Param, out: Channels, inputs: Channels | null = null) => {
    sorted.set(param.name, reordered(tensors.get(param.name)!, order(out), order(inputs)));
  };
  for (const { weight, bias, norm, in: inputs, out } of layers) {
    sort(weight, out, inputs);
    if (bias !== null) sort(bias, out);
    if (norm === null) continue;
    sort(norm.weight, out);
    sort(norm.bias, out);
    for (const { mean, var: variance } of norm.stats) {
      sort(mean, out);
      sort(variance, out);
    }
  }
  return sorted;
}

/** Of every channel that a norm scales: the image's and the logits are not among them. */
function importances(layers: readonly Layer[], tensors: Tensors): Map<Channels, Float64Array> {
  const gains = new Map<Channels, Float64Array>();
  const reading = new Map<Channels, Float64Array>();
  /** Adds the magnitudes of a parameter's values, whose channels are along the axis with `stride`. */
  const sum = (sums: typeof gains, { root }: Channels, param: Param, stride: number, channels: number) => {
    const row = sums.get(root) ?? new Float64Array(Math.max(...root.counts, channels));
    asFloat32(tensors.get(param.name)!).forEach((value, at) => {
      row[Math.floor(at / stride) % channels]! += Math.abs(value);
    });
    sums.set(root, row);
  };
  for (const { weight, norm, in: inputs, out, attention } of layers) {
    if (norm !== null) sum(gains, out, norm.weight, 1, norm.weight.size);
    const [, channels, kh, kw] = weight.shape as [number, number, number, number];
    if (inputs !== null && attention === null) sum(reading, inputs, weight, kh * kw, channels);
  }
  return new Map([...gains].map(([root, row]) => [root, row.map((gain, c) => gain * reading.get(root)![c]!)]));
}

/**
 * Indices in descending order of importance, equal ones as they were; between two counts for themselves, and by whole units:
 * one that a count cuts keeps its place.
 */
function descending(importance: Float64Array, { counts, unit }: Channels): number[] {
  const total = (piece: readonly number[]) => piece.reduce((sum, c) => sum + importance[c]!, 0);
  const order: number[] = [];
  for (const end of [...counts].sort((a, b) => a - b)) {
    const pieces: number[][] = [];
    for (let from = order.length; from < end; ) {
      const to = Math.min(from + unit - (from % unit), end);
      const piece = Array.from({ length: to - from }, (_, i) => from + i);
      pieces.push(piece.sort((a, b) => importance[b]! - importance[a]!));
      from = to;
    }
    const whole = pieces.filter(({ length }) => length === unit).sort((a, b) => total(b) - total(a));
    order.push(...pieces.flatMap((piece) => (piece.length === unit ? whole.shift()! : piece)));
  }
  return order;
}

/** The tensor's first two axes in other orders; undefined: as they are. */
function reordered(tensor: StoredTensor, out: readonly number[] | undefined, inputs: readonly number[] | undefined) {
  const [o = 1, i = 1, ...kernel] = tensor.shape;
  const taps = kernel.reduce((a, b) => a * b, 1);
  const values = asFloat32(tensor);
  const result = new Float32Array(values.length);
  for (let a = 0; a < o; a++) {
    for (let b = 0; b < i; b++) {
      const from = ((out?.[a] ?? a) * i + (inputs?.[b] ?? b)) * taps;
      result.set(values.subarray(from, from + taps), (a * i + b) * taps);
    }
  }
  return float32Tensor(tensor.shape, result);
}
