/** The weights of one width as constants: the prefixes that it uses, its batch norm multiplied into them. */
import { asFloat32 } from "../io/float32.js";
import type { StoredTensor } from "../io/safetensors.js";
import { prefix } from "../models/slice.js";
import { type Conv, type Depthwise, NORM_EPS, type Norm, normEntry } from "../nn/layers.js";
import type { Param } from "../nn/parameters.js";
import type { Position } from "../nn/width.js";
import type { Graph } from "./graph.js";

export class Weights {
  readonly #known = new Map<string, string[]>();

  /** `graph`: where the constants are to lie; `tensors`: a model file's parameters. */
  constructor(
    readonly graph: Graph,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
  ) {}

  /** Names of a convolution's weight, and of its shift where it has one. `cin`: inputs of each filter. */
  conv(conv: Conv | Depthwise, norm: Norm | null, at: Position, cout: number, cin: number): string[] {
    const { name, weight } = conv;
    const entry = norm?.kind === "bn" ? normEntry(norm, at) : "none";
    const key = [name, cout, cin, entry].join(" ");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const dims = [cout, cin, ...weight.fileShape.slice(2)];
    const filters = this.#values(weight, dims);
    const folded = norm?.kind === "bn" ? this.#folded(norm, at, cout) : null;
    if (folded !== null) {
      const length = filters.length / cout;
      for (let i = 0; i < filters.length; i++) filters[i]! *= folded.scale[Math.floor(i / length)]!;
    }
    const bias = "bias" in conv ? conv.bias : null;
    const shift = folded?.shift ?? (bias === null ? null : this.#values(bias, [cout]));
    const names = [this.graph.constant(`${name}.weight`, dims, filters)];
    if (shift !== null) names.push(this.graph.constant(`${name}.bias`, [cout], shift));
    this.#known.set(key, names);
    return names;
  }

  /** Names of a group norm's scale and shift, as (C, 1, 1). */
  groupNorm(norm: Norm, c: number): string[] {
    const key = [norm.name, c].join(" ");
    const names =
      this.#known.get(key) ??
      [norm.weight, norm.bias].map((param) => this.graph.constant(param.name, [c, 1, 1], this.#values(param, [c])));
    this.#known.set(key, names);
    return names;
  }

  /** In double: y = x · scale + shift. */
  #folded(norm: Norm, at: Position, c: number): { scale: Float64Array; shift: Float32Array } {
    const stats = norm.stats[normEntry(norm, at)]!;
    const [gamma, beta, mean, variance] = [norm.weight, norm.bias, stats.mean, stats.var].map((param) =>
      this.#values(param, [c]),
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const scale = Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + NORM_EPS));
    return { scale, shift: beta.map((b, i) => b - mean[i]! * scale[i]!) };
  }

  #values(param: Param, dims: readonly number[]): Float32Array {
    return prefix(asFloat32(this.tensors.get(param.name)!), param.fileShape, dims);
  }
}
