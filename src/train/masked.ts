/**
 * The walk of stage II's Gumbel form: computed at the widest candidate and masked by each image's choice, so that the choice
 * receives a gradient. Masks multiply after every convolution whose output slims and again after its norm; norms mix the
 * candidates' running statistics, behind a second gate those of every pair of choices. With a one-hot choice the logits equal
 * those of the chosen width. PUBLISHED_CODE 33–37.
 */
import type { Placed, Plan } from "../engine/plan.js";
import { type Supernet, splitAtGate, walkOn } from "../models/build.js";
import { startWalk } from "../nn/blocks.js";
import { gateScores } from "../nn/gate.js";
import type { Conv, Depthwise, Gate, Norm } from "../nn/layers.js";
import { NORM_EPS, normEntry } from "../nn/layers.js";
import { channelsAt, type Position, type Slot } from "../nn/width.js";
import type { Activation } from "../ops/activation.js";
import { affine } from "../ops/affine.js";
import { conv } from "../ops/conv.js";
import { depthwise } from "../ops/depthwise.js";
import { joint, mix, normFactors, straightThrough } from "../ops/mix.js";
import { groupNorm } from "../ops/norm.js";
import type { Tape } from "../ops/tape.js";
import { Tensor } from "../ops/tensor.js";
import { TrainExec, type Weights } from "./forward.js";

/**
 * Runs the first n images of the plan's input: to the gate as they are, masked from there on. `plan` and `weights` are of the same
 * span; what the tape keeps of the plan holds until the plan's next call.
 */
export function walkMasked(
  tape: Tape,
  net: Supernet,
  weights: Weights,
  plan: Plan,
  n: number,
  noise: readonly Float32Array[],
): { logits: Tensor; decisions: readonly GateDecision[] } {
  const exec = new MaskedExec(tape, weights, noise);
  const { x, input, reduced } = plan.runToGate(n);
  const frozen = ({ at, h, w, c }: Placed) => new Tensor(at, n, h, w, c, false);
  const walk = { ...startWalk(frozen(x), 0), input: input && frozen(input), reduced: frozen(reduced) };
  const logits = walkOn<Tensor>(splitAtGate(net).tail, exec, walk).x;
  return { logits, decisions: exec.decisions };
}

/** What one gate did with a batch. */
export interface GateDecision {
  gate: Gate;
  /** (N, 1, 1, candidates) */
  scores: Tensor;
  choice: Tensor;
  soft: Float64Array;
  /** Index into the candidates, by image. */
  picked: Int32Array;
}

class MaskedExec extends TrainExec {
  readonly decisions: GateDecision[] = [];
  #current: GateDecision | null = null;
  /** As choices: the slot of the residual stream; and behind a second gate the pair of what came into it and what it chose. */
  #stream: Tensor | null = null;
  #pairs: Tensor | null = null;

  /** `noise[gate]`: Gumbel noise, N · candidates values. Only the gates' heads get gradients. */
  constructor(
    tape: Tape,
    weights: Weights,
    readonly noise: readonly Float32Array[],
  ) {
    super(tape, weights, { momentum: () => 0, route: 0 });
  }

  override gate(gate: Gate, reduced: () => Tensor, at: Position): Slot {
    const scores = gateScores(this, gate, reduced(), at);
    this.#current = { gate, scores, ...straightThrough(this.tape, scores, this.noise[gate.index]!) };
    const { choice } = this.#current;
    this.#pairs = this.#stream && joint(this.tape, this.#stream, choice);
    this.#stream = this.#pairs && gate.keepsStream ? mix(this.tape, this.#pairs, widerOf(choice.c)) : choice;
    this.decisions.push(this.#current);
    return gate.candidates[gate.candidates.length - 1]!;
  }

  override conv(x: Tensor, layer: Conv, norm: Norm | null, act: Activation, at: Position): Tensor {
    const weight = this.convWeight(layer);
    const learns = layer.weight.role === "gate";
    const y = conv(this.tape, x, learns ? weight : { ...weight, dw: 0, dbias: 0 }, channelsAt(layer.cout, at.slot));
    return this.#finish(y, layer.cout, norm, act);
  }

  override depthwise(x: Tensor, layer: Depthwise, norm: Norm, act: Activation): Tensor {
    const { kernel, stride, pad } = layer;
    const weight = { w: layer.weight.in(this.weights.span), dw: 0, cMax: layer.weight.shape[0]!, kernel, stride, pad };
    return this.#finish(depthwise(this.tape, x, weight), layer.widths, norm, act);
  }

  /** mask, norm, mask, activation. */
  #finish(y: Tensor, widths: readonly number[], norm: Norm | null, act: Activation): Tensor {
    const mask = widths.length > 1 ? this.#mask(widths, y.c) : null;
    if (norm === null) return mask === null && act === "none" ? y : affine(this.tape, y, mask, null, act);
    const masked = mask === null ? y : affine(this.tape, y, mask, null, "none");
    const normed = norm.kind === "gn" ? this.#groupNorm(masked, norm) : this.#mixedNorm(masked, norm);
    return affine(this.tape, normed, mask, null, act);
  }

  /** Which channels each image's choice keeps. */
  #mask(widths: readonly number[], c: number): Tensor {
    const { gate, choice } = this.#current!;
    const table = gate.candidates.map((k) => Float32Array.from({ length: c }, (_, j) => (j < widths[k]! ? 1 : 0)));
    return mix(this.tape, choice, table);
  }

  #mixedNorm(x: Tensor, norm: Norm): Tensor {
    const { choice, entries } = this.#statistics(norm);
    const values = (param: { in(span: number): number }, count: number) => {
      const at = param.in(this.weights.span) / 4;
      return this.tape.backend.f32.slice(at, at + count);
    };
    // Beyond a candidate's own width its statistics count as 0.
    const table = (key: "mean" | "var") =>
      entries.map((entry) => {
        const param = norm.stats[entry]![key];
        const padded = new Float32Array(x.c);
        padded.set(values(param, param.size));
        return padded;
      });
    const mean = mix(this.tape, choice, table("mean"));
    const variance = mix(this.tape, choice, table("var"));
    const gamma = values(norm.weight, x.c);
    const { scale, shift } = normFactors(this.tape, mean, variance, gamma, values(norm.bias, x.c), NORM_EPS);
    return affine(this.tape, x, scale, shift, "none");
  }

  /** What the norm's statistics are mixed by, and which of them each of its columns stands for. */
  #statistics(norm: Norm): { choice: Tensor; entries: number[] } {
    const { gate, choice } = this.#current!;
    if (!norm.pairs) return { choice, entries: gate.candidates.map((slot) => normEntry(norm, { slot, from: 0 })) };
    // All gates have the same candidates.
    const entries = gate.candidates.flatMap((from) => gate.candidates.map((slot) => normEntry(norm, { slot, from })));
    return { choice: this.#pairs!, entries };
  }

  #groupNorm(x: Tensor, norm: Norm): Tensor {
    const { span } = this.weights;
    const weight = { gamma: norm.weight.in(span), beta: norm.bias.in(span), dgamma: 0, dbeta: 0, eps: NORM_EPS };
    return groupNorm(this.tape, x, weight, "none");
  }
}

/** For each pair of candidates, as a choice, the wider one. */
function widerOf(count: number): Float32Array[] {
  return Array.from({ length: count ** 2 }, (_, pair) => {
    const wider = Math.max(Math.floor(pair / count), pair % count);
    return Float32Array.from({ length: count }, (_, k) => (k === wider ? 1 : 0));
  });
}
