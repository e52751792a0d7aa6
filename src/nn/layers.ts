/** Slimmable layers: what they are, not how they run. Each names its parameters and its widths. */
import { samePadding } from "../ops/conv.js";
import { Param, type Role } from "./parameters.js";
import { channelsAt, type Position, roundChannels, widest } from "./width.js";

/** Collects the parameters while a network is built. */
export type Declare = (param: Param) => Param;

/** Convolution whose filters and inputs are prefixes of the widest's. Linear layers are 1x1. */
export interface Conv {
  readonly name: string;
  readonly weight: Param;
  readonly bias: Param | null;
  readonly cin: readonly number[];
  readonly cout: readonly number[];
  readonly kernel: number;
  readonly stride: number;
  readonly pad: number;
}

export interface Depthwise {
  readonly name: string;
  readonly weight: Param;
  readonly widths: readonly number[];
  readonly kernel: number;
  readonly stride: number;
  readonly pad: number;
}

export type NormKind = "bn" | "gn";

/** What a norm's input depends on: the gates before it, and the slots that each chooses among. */
export interface Upstream {
  readonly gates: number;
  readonly slots: number;
}

/**
 * One scale and shift for all widths. Batch norm keeps running statistics for every kind of input it can tell apart: before the
 * first gate for each of its widths, behind it for each slot, behind a second for each (slot whose width came in, slot now).
 */
export interface Norm {
  readonly name: string;
  readonly kind: NormKind;
  readonly weight: Param;
  readonly bias: Param;
  readonly widths: readonly number[];
  /** Slots that `stats` tells apart, and whether for each that came into the last gate's block. */
  readonly slots: number;
  readonly pairs: boolean;
  /** By `normEntry`; empty for group norm. */
  readonly stats: readonly { mean: Param; var: Param }[];
}

export const NORM_EPS = 1e-5;
export const NORM_MOMENTUM = 0.1;

/** Which of a batch norm's statistics hold at a position. */
export function normEntry({ slots, pairs }: Norm, { slot, from }: Pick<Position, "slot" | "from">): number {
  const index = (s: Position["slot"]) => (slots === 1 ? 0 : s === "largest" ? slots - 1 : s);
  return (pairs ? index(from) * slots : 0) + index(slot);
}

/** Squeeze-and-excitation; its reduced features also feed the slimming head, where there is one. */
export interface Attention {
  readonly name: string;
  readonly reduce: Conv;
  readonly expand: Conv;
}

/** The slimming head: features of the image → one score per candidate width. It sets the slot of all that follows. */
export interface Gate {
  readonly name: string;
  /** Position among the network's gates. */
  readonly index: number;
  /** A layer with ReLU before the head; null: the scores are linear in the features, as in the paper. */
  readonly hidden: Conv | null;
  readonly head: Conv;
  /** Applied to the head's outputs: the scores are probabilities, or any numbers. */
  readonly act: "sigmoid" | "none";
  /** Slots the scores stand for. */
  readonly candidates: readonly number[];
  /** Whether the residual stream passes by, so that it stays as wide where the gate chooses narrower. */
  readonly keepsStream: boolean;
}

export function declareConv(
  declare: Declare,
  name: string,
  cin: readonly number[],
  cout: readonly number[],
  options: { kernel?: number; stride?: number; bias?: boolean; role?: Role; linear?: boolean } = {},
): Conv {
  const { kernel = 1, stride = 1, bias = false, role = "decayed", linear = false } = options;
  const biasRole: Role = role === "gate" ? "gate_bias" : "plain";
  const shape = [widest(cout), widest(cin), kernel, kernel];
  const fileShape = linear ? shape.slice(0, 2) : shape;
  const weight = declare(new Param(`${name}.weight`, "conv", shape, role, fileShape));
  return {
    name,
    weight,
    bias: bias ? declare(new Param(`${name}.bias`, "vector", [widest(cout)], biasRole)) : null,
    cin,
    cout,
    kernel,
    stride,
    pad: samePadding(kernel, stride),
  };
}

export function declareDepthwise(
  declare: Declare,
  name: string,
  widths: readonly number[],
  kernel: number,
  stride: number,
): Depthwise {
  const weight = declare(new Param(`${name}.weight`, "depthwise", [widest(widths), 1, kernel, kernel], "decayed"));
  return { name, weight, widths, kernel, stride, pad: samePadding(kernel, stride) };
}

export function declareNorm(
  declare: Declare,
  name: string,
  widths: readonly number[],
  kind: NormKind,
  upstream: Upstream,
): Norm {
  const slots = upstream.gates === 0 ? widths.length : upstream.slots;
  const pairs = upstream.gates > 1;
  const entries = kind === "gn" ? 0 : pairs ? slots ** 2 : slots;
  const affine = `${name}.aux_bn.${Math.max(entries - 1, 0)}`;
  const channels = widest(widths);
  return {
    name,
    kind,
    weight: declare(new Param(`${affine}.weight`, "vector", [channels], "plain")),
    bias: declare(new Param(`${affine}.bias`, "vector", [channels], "plain")),
    widths,
    slots,
    pairs,
    stats: Array.from({ length: entries }, (_, entry) => {
      const c = channelsAt(widths, entry % slots);
      return {
        mean: declare(new Param(`${name}.aux_bn.${entry}.running_mean`, "vector", [c], "statistic")),
        var: declare(new Param(`${name}.aux_bn.${entry}.running_var`, "vector", [c], "statistic")),
      };
    }),
  };
}

/** `size`: of the reduced features, to be rounded. It never slims. */
export function declareAttention(declare: Declare, name: string, widths: readonly number[], size: number): Attention {
  const reduced = [roundChannels(size, 1)];
  return {
    name,
    reduce: declareConv(declare, `${name}.conv_reduce`, widths, reduced, { bias: true }),
    expand: declareConv(declare, `${name}.conv_expand`, reduced, widths, { bias: true }),
  };
}

/** What a slimming head is made of. The paper's: `{ hidden: 0, bias: false }`. */
export interface GateShape {
  /** Channels of its hidden layer; 0: none. */
  hidden: number;
  bias: boolean;
  /** `sigmoid`: its scores are probabilities. Default `none`. */
  act?: "sigmoid" | "none";
}

export function declareGate(
  declare: Declare,
  name: string,
  index: number,
  features: readonly number[],
  candidates: readonly number[],
  { hidden, bias, act = "none" }: GateShape,
  keepsStream: boolean,
): Gate {
  const options = { role: "gate", bias } as const;
  const first = hidden > 0 ? declareConv(declare, `${name}.gate.0`, features, [hidden], options) : null;
  const last = first === null ? features : first.cout;
  const head = declareConv(declare, `${name}.gate.${first ? 2 : 0}`, last, [candidates.length], options);
  return { name, index, hidden: first, head, act, candidates, keepsStream };
}
