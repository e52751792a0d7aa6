/**
 * A walk that runs nothing: it writes down the kernel calls of a segment over virtual buffers, each with norm, activation and
 * bias fused into the convolution before it. plan.ts gives the buffers their place.
 */
import type { Precision } from "../backend/backend.js";
import { BAND, type Call } from "../backend/records.js";
import type { Exec } from "../nn/exec.js";
import { gateScores } from "../nn/gate.js";
import { type Conv, NORM_EPS, type Norm, normEntry } from "../nn/layers.js";
import { channelsAt, type Position } from "../nn/width.js";
import { type Activation, actCode } from "../ops/activation.js";
import { outputSize } from "../ops/conv.js";
import { GROUP_CHANNELS } from "../ops/norm.js";
import { pooledSize } from "../ops/pool.js";

/** Memory for `floats` values of each image. */
export interface Buffer {
  readonly floats: number;
}

/** An activation of one image: (h, w, c) in a buffer. */
export interface Activations {
  readonly h: number;
  readonly w: number;
  readonly c: number;
  /** In bf16: `h · w · ⌈c / 2⌉` pairs of channels. */
  readonly paired?: boolean;
  readonly buffer: Buffer;
}

/** One kernel call, once its buffers have addresses. The batch size stays open (n = 0). */
export interface PlannedOp {
  /** Of its layer, as cost/madds.ts names it; else of what it does. */
  readonly name: string;
  readonly buffers: readonly Buffer[];
  call(at: (buffer: Buffer) => number): Call;
}

/** Addresses that do not depend on the plan's buffers. */
export interface Constants {
  /** A parameter in the weights' span. */
  param(param: { offset: number }): number;
  /** Scale and shift of a batch norm at one of its entries, see fold.ts. */
  folded(norm: Norm, entry: number): { scale: number; shift: number };
}

const NONE = { scale: 0, shift: 0 };

/** The last depthwise convolution, and the means of its bands of rows, which it writes where someone asked for them. */
interface Depthwise {
  readonly y: Buffer;
  readonly buffers: Buffer[];
  means: Buffer | null;
}

export class EmitExec implements Exec<Activations> {
  readonly ops: PlannedOp[] = [];
  #depthwise: Depthwise | null = null;
  /** The scores of the gate that ends this segment. */
  scores: Activations | null = null;
  /** How many of `ops` run where nothing is chosen: all before those that only the gate asks for. */
  ungated: number | null = null;

  constructor(
    readonly constants: Constants,
    readonly precision: Precision,
  ) {}

  #emit(name: string, buffers: Buffer[], call: PlannedOp["call"]): void {
    this.ops.push({ name, buffers, call });
  }

  #output(h: number, w: number, c: number): Activations {
    return { h, w, c, buffer: { floats: h * w * c } };
  }

  #fused(norm: Norm | null, at: Position, bias: number): { scale: number; shift: number } {
    if (norm === null) return { scale: 0, shift: bias };
    return norm.kind === "bn" ? this.constants.folded(norm, normEntry(norm, at)) : NONE;
  }

  /** x in bf16, times one factor per image and channel where there is one. */
  #paired(x: Activations, factor: Activations | null): Activations {
    const { h, w, c } = x;
    const y: Activations = { h, w, c, buffer: { floats: h * w * Math.ceil(c / 2) }, paired: true };
    this.#emit(
      factor === null ? "to bf16" : "scale",
      [x.buffer, ...(factor === null ? [] : [factor.buffer]), y.buffer],
      (at) => ({
        op: "to_bf16",
        x: at(x.buffer),
        y: at(y.buffer),
        scale: factor === null ? 0 : at(factor.buffer),
        n: 0,
        hw: h * w,
        c,
      }),
    );
    return y;
  }

  conv(input: Activations, conv: Conv, norm: Norm | null, act: Activation, position: Position): Activations {
    const { kernel, stride, pad } = conv;
    const bf16 = conv.weight.kind === "conv_bf16";
    const x = bf16 && !input.paired ? this.#paired(input, null) : input;
    const y = this.#output(
      outputSize(x.h, kernel, stride, pad),
      outputSize(x.w, kernel, stride, pad),
      channelsAt(conv.cout, position.slot),
    );
    const w = this.constants.param(conv.weight);
    const { scale, shift } = this.#fused(norm, position, conv.bias === null ? 0 : this.constants.param(conv.bias));
    const grouped = norm?.kind === "gn";
    this.#emit(conv.name, [x.buffer, y.buffer], (at) => ({
      op: bf16 ? "conv_bf16" : "conv",
      x: at(x.buffer),
      w,
      y: at(y.buffer),
      scale,
      shift,
      n: 0,
      h: x.h,
      width: x.w,
      cin: x.c,
      cout: y.c,
      kernel,
      stride,
      pad,
      oh: y.h,
      ow: y.w,
      cin_max: conv.weight.shape[1]!,
      act: grouped ? 0 : actCode[act],
    }));
    if (grouped) this.#groupNorm(y, norm, act);
    return y;
  }

  depthwise: Exec<Activations>["depthwise"] = (x, conv, norm, act, position) => {
    const { kernel, stride, pad } = conv;
    const y = this.#output(outputSize(x.h, kernel, stride, pad), outputSize(x.w, kernel, stride, pad), x.c);
    const w = this.constants.param(conv.weight);
    const { scale, shift } = this.#fused(norm, position, 0);
    const grouped = norm.kind === "gn";
    const written: Depthwise = { y: y.buffer, buffers: [x.buffer, y.buffer], means: null };
    this.#depthwise = written;
    this.#emit(conv.name, written.buffers, (at) => ({
      op: "depthwise",
      x: at(x.buffer),
      w,
      y: at(y.buffer),
      scale,
      shift,
      means: written.means === null ? 0 : at(written.means),
      n: 0,
      h: x.h,
      width: x.w,
      c: x.c,
      kernel,
      stride,
      pad,
      oh: y.h,
      ow: y.w,
      cmax: conv.weight.shape[0]!,
      act: grouped ? 0 : actCode[act],
    }));
    if (grouped) this.#groupNorm(y, norm, act);
    return y;
  };

  #groupNorm(y: Activations, norm: Norm, act: Activation): void {
    const floats = Math.ceil(y.c / GROUP_CHANNELS);
    const [mean, inv]: [Buffer, Buffer] = [{ floats }, { floats }];
    this.#emit("group norm", [y.buffer, mean, inv], (at) => ({
      op: "group_norm",
      x: at(y.buffer),
      y: at(y.buffer),
      gamma: this.constants.param(norm.weight),
      beta: this.constants.param(norm.bias),
      mean: at(mean),
      inv: at(inv),
      n: 0,
      hw: y.h * y.w,
      c: y.c,
      group: GROUP_CHANNELS,
      act: actCode[act],
      eps: NORM_EPS,
    }));
  }

  pool: Exec<Activations>["pool"] = (x, window) => {
    const y = this.#output(pooledSize(x.h, window), pooledSize(x.w, window), x.c);
    this.#pool(x, y, window.kernel, window.stride, window.pad, window.kind === "max" ? 1 : 0);
    return y;
  };

  globalPool(x: Activations): Activations {
    const y = this.#output(1, 1, x.c);
    this.#pool(this.#bandMeans(x) ?? x, y, 0, 1, 0, 0);
    return y;
  }

  /** What has x's mean for its own and is smaller: a depthwise convolution that just wrote x has the rows in its cache. */
  #bandMeans(x: Activations): Activations | null {
    const last = this.#depthwise;
    if (last?.y !== x.buffer || last.buffers !== this.ops.at(-1)!.buffers) return null;
    const means = this.#output(Math.ceil(x.h / BAND), 1, x.c);
    last.means = means.buffer;
    last.buffers.push(means.buffer);
    return means;
  }

  #pool(x: Activations, y: Activations, kernel: number, stride: number, pad: number, kind: number) {
    this.#emit(kernel === 0 ? "global pool" : "pool", [x.buffer, y.buffer], (at) => ({
      op: "pool",
      x: at(x.buffer),
      y: at(y.buffer),
      n: 0,
      h: x.h,
      width: x.w,
      c: x.c,
      kernel,
      stride,
      pad,
      oh: y.h,
      ow: y.w,
      kind,
    }));
  }

  /** In place: nothing but the next convolution reads what the attention scales. */
  scale(x: Activations, factor: Activations): Activations {
    if (this.precision === "bf16") return this.#paired(x, factor);
    this.#emit("scale", [x.buffer, factor.buffer], (at) => ({
      op: "affine",
      x: at(x.buffer),
      y: at(x.buffer),
      scale: at(factor.buffer),
      n: 0,
      hw: x.h * x.w,
      c: x.c,
      per_image: 1,
    }));
    return x;
  }

  /** In place of `a`, the block's own, where that is wide enough. Never of `b`, which may lie in memory that crosses a gate. */
  add(a: Activations, b: Activations, act: Activation): Activations {
    const y = a.c >= b.c ? a : this.#output(b.h, b.w, b.c);
    this.#emit("add", [...new Set([a.buffer, b.buffer, y.buffer])], (at) => ({
      op: "add",
      a: at(a.buffer),
      b: at(b.buffer),
      y: at(y.buffer),
      n: 0,
      hw: a.h * a.w,
      ca: a.c,
      cb: b.c,
      act: actCode[act],
    }));
    return y;
  }

  gate: Exec<Activations>["gate"] = (gate, reduced, position) => {
    this.ungated = this.ops.length;
    this.scores = gateScores(this, gate, reduced(), position);
    return position.slot;
  };

  features(x: Activations): Activations {
    return x;
  }
}
