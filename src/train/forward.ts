/** The walk that trains: every layer on the tape, norms on the batch's own statistics. Sub-networks are really sliced. */
import type { Exec } from "../nn/exec.js";
import { type Conv, type Depthwise, type Gate, NORM_EPS, type Norm, normEntry } from "../nn/layers.js";
import { channelsAt, choiceAt, type Position, type Route, type Slot } from "../nn/width.js";
import type { Activation } from "../ops/activation.js";
import { add } from "../ops/add.js";
import { affine } from "../ops/affine.js";
import { type ConvWeight, conv } from "../ops/conv.js";
import { depthwise } from "../ops/depthwise.js";
import { batchNorm, groupNorm, type NormWeight, type RunningStats } from "../ops/norm.js";
import { globalPool, type PoolWindow, pool } from "../ops/pool.js";
import type { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import type { TransposedWeights } from "./transposed.js";

/** Addresses of what the walk reads and writes. */
export interface Weights {
  /** Span of the weights and statistics. */
  readonly span: number;
  /** Span of the gradients, 0: none are computed. */
  readonly grads: number;
  readonly transposed: TransposedWeights | null;
}

export interface TrainExecOptions {
  /** How far a norm's running statistics move towards the batch's. */
  momentum: (norm: Norm, entry: number) => number;
  /** What the gates answer with. */
  route: Route;
  /** Dropout: factor per image and feature, (N, 1, 1, C). */
  dropout?: Tensor | null;
}

export class TrainExec implements Exec<Tensor> {
  constructor(
    readonly tape: Tape,
    readonly weights: Weights,
    readonly options: TrainExecOptions,
  ) {}

  conv(x: Tensor, layer: Conv, norm: Norm | null, act: Activation, at: Position): Tensor {
    const y = conv(this.tape, x, this.convWeight(layer), channelsAt(layer.cout, at.slot));
    if (norm !== null) return this.norm(y, norm, act, at);
    return act === "none" ? y : affine(this.tape, y, null, null, act);
  }

  depthwise(x: Tensor, layer: Depthwise, norm: Norm, act: Activation, at: Position): Tensor {
    const { span, grads } = this.weights;
    const y = depthwise(this.tape, x, {
      w: layer.weight.in(span),
      dw: grads === 0 ? 0 : layer.weight.in(grads),
      cMax: layer.weight.shape[0]!,
      kernel: layer.kernel,
      stride: layer.stride,
      pad: layer.pad,
    });
    return this.norm(y, norm, act, at);
  }

  norm(x: Tensor, norm: Norm, act: Activation, at: Position): Tensor {
    const { span, grads } = this.weights;
    const weight: NormWeight = {
      gamma: norm.weight.in(span),
      beta: norm.bias.in(span),
      dgamma: grads === 0 ? 0 : norm.weight.in(grads),
      dbeta: grads === 0 ? 0 : norm.bias.in(grads),
      eps: NORM_EPS,
    };
    if (norm.kind === "gn") return groupNorm(this.tape, x, weight, act);
    const entry = normEntry(norm, at);
    const stats = norm.stats[entry]!;
    const running: RunningStats = {
      mean: stats.mean.in(span),
      var: stats.var.in(span),
      momentum: this.options.momentum(norm, entry),
    };
    return batchNorm(this.tape, x, weight, running, act);
  }

  pool(x: Tensor, window: PoolWindow): Tensor {
    return pool(this.tape, x, window);
  }

  globalPool(x: Tensor): Tensor {
    return globalPool(this.tape, x);
  }

  scale(x: Tensor, factor: Tensor): Tensor {
    return affine(this.tape, x, factor, null, "none");
  }

  add(a: Tensor, b: Tensor, act: Activation): Tensor {
    return add(this.tape, a, b, act);
  }

  gate(gate: Gate, _reduced: () => Tensor, _at: Position): Slot {
    return choiceAt(this.options.route, gate.index);
  }

  features(x: Tensor): Tensor {
    const { dropout } = this.options;
    return dropout ? affine(this.tape, x, dropout, null, "none") : x;
  }

  protected convWeight(layer: Conv): ConvWeight {
    const { span, grads, transposed } = this.weights;
    const [coutMax, cinMax] = layer.weight.shape as [number, number];
    return {
      w: layer.weight.in(span),
      dw: grads === 0 ? 0 : layer.weight.in(grads),
      wt: transposed?.at(layer) ?? 0,
      bias: layer.bias === null ? 0 : layer.bias.in(span),
      dbias: layer.bias === null || grads === 0 ? 0 : layer.bias.in(grads),
      cinMax,
      coutMax,
      kernel: layer.kernel,
      stride: layer.stride,
      pad: layer.pad,
    };
  }
}
