/**
 * The parameters of a network: names and shapes of the published checkpoints outside, one contiguous span of floats inside.
 * Student, teacher, gradients and momentum are spans of the same layout, so an optimiser step is a handful of kernel calls.
 */
import { PANEL } from "../backend/records.js";
import { ShapeError } from "../errors.js";
import { packPairs, pairedWords, unpackPairs } from "./bf16.js";

/**
 * Which part of the span a parameter lies in: matrices (decayed) and the rest (plain) are trained in stage I, the slimming
 * heads' matrices (gate) and biases in stage II, statistics by norms.
 */
export type Role = "decayed" | "plain" | "gate" | "gate_bias" | "statistic";

const ROLES: readonly Role[] = ["decayed", "plain", "gate", "gate_bias", "statistic"];

/** Spans and their parameters begin on 64 bytes. */
const ALIGN = 16;

export class Param {
  /** Floats from the span's start; set by the layout. */
  offset = -1;

  constructor(
    readonly name: string,
    /** `conv_bf16`: in bf16, in pairs of inputs that share a float's place. */
    readonly kind: "conv" | "conv_bf16" | "depthwise" | "vector",
    /** (O, I, kh, kw), (C, 1, kh, kw) or (C). */
    readonly shape: readonly number[],
    readonly role: Role,
    /** In files: as `shape`, but (O, I) for a linear layer's weight. */
    readonly fileShape: readonly number[] = shape,
  ) {}

  /** Floats in the span, padding included. */
  get floats(): number {
    const [o, i, kh, kw] = this.shape as [number, number, number, number];
    if (this.kind === "conv") return Math.ceil(o / PANEL) * PANEL * i * kh * kw;
    if (this.kind === "conv_bf16") return pairedWords(this.shape);
    return this.size;
  }

  /** Values. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  /** The same to be stored in bf16. */
  inBf16(): Param {
    return new Param(this.name, "conv_bf16", this.shape, this.role, this.fileShape);
  }

  /** Byte address in the span that begins at `span`. */
  in(span: number): number {
    return span + this.offset * 4;
  }

  /** Published layout → span's layout. `floats` is the span's part that belongs to this parameter. */
  pack(values: ArrayLike<number>, floats: Float32Array): void {
    if (values.length !== this.size) {
      throw new ShapeError(
        `${this.name}: expected ${this.size} values (${this.shape.join("×")}), got ${values.length}`,
      );
    }
    if (this.kind === "conv_bf16") {
      packPairs(this.shape, values, floats);
      return;
    }
    if (this.floats > this.size) floats.fill(0); // the last panel's padding
    this.#runs((packed, published, count, step) => {
      for (let n = 0; n < count; n++) floats[packed + n] = values[published + n * step]!;
    });
  }

  /** Span's layout → published layout. */
  unpack(floats: Float32Array): Float32Array {
    const values = new Float32Array(this.size);
    if (this.kind === "conv_bf16") {
      unpackPairs(this.shape, floats, values);
      return values;
    }
    this.#runs((packed, published, count, step) => {
      for (let n = 0; n < count; n++) values[published + n * step] = floats[packed + n]!;
    });
    return values;
  }

  /** Neighbours in the span, which are `step` apart in the published order. Ascending: the span is written at every start. */
  #runs(visit: (packed: number, published: number, count: number, step: number) => void): void {
    if (this.kind === "vector") {
      visit(0, 0, this.size, 1);
      return;
    }
    const [o, i, kh, kw] = this.shape as [number, number, number, number];
    const taps = kh * kw;
    if (this.kind === "depthwise") {
      for (let tap = 0; tap < taps; tap++) visit(tap * o, tap, o, taps);
      return;
    }
    for (let first = 0; first < o; first += PANEL) {
      for (let tap = 0; tap < taps; tap++) {
        for (let input = 0; input < i; input++) {
          const packed = (first * taps + tap * PANEL) * i + input * PANEL;
          visit(packed, (first * i + input) * taps + tap, Math.min(PANEL, o - first), i * taps);
        }
      }
    }
  }
}

export class Layout {
  readonly params: readonly Param[];
  /** [from, to) in floats, by role; consecutive. */
  readonly range: Readonly<Record<Role, readonly [number, number]>>;
  /** Floats of a whole span. */
  readonly floats: number;

  constructor(params: readonly Param[]) {
    this.params = params;
    const range = {} as Record<Role, [number, number]>;
    let at = 0;
    for (const role of ROLES) {
      const from = at;
      for (const p of params) {
        if (p.role !== role) continue;
        p.offset = at;
        at += Math.ceil(p.floats / ALIGN) * ALIGN;
      }
      range[role] = [from, at];
    }
    this.range = range;
    this.floats = at;
  }

  /** Floats from the start that can have gradients: everything but statistics. */
  get trainable(): number {
    return this.range.gate_bias[1];
  }
}
