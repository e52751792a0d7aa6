/**
 * Blocks as steps. A step advances the walk's state; a gate step lies between the steps before and after the choice, so
 * that the walk can be cut at gates (engine) or run through (training, counting).
 */
import type { Activation } from "../ops/activation.js";
import type { PoolWindow } from "../ops/pool.js";
import type { Exec } from "./exec.js";
import {
  type Attention,
  type Conv,
  type Declare,
  declareAttention,
  declareConv,
  declareDepthwise,
  declareGate,
  declareNorm,
  type Gate,
  type GateShape,
  type Norm,
  type NormKind,
  type Upstream,
} from "./layers.js";
import { type Position, roundChannels, type Slot, widerSlot, widest } from "./width.js";

/** Where a walk stands: the activation, its place among the widths, and what a block keeps for its second half. */
export interface Walk<T> {
  x: T;
  at: Position;
  /** The block's input, where there is a residual sum. */
  input: T | null;
  /** What a gate reads: the attention's reduced features, or the pooled activation where there is no attention. */
  reduced: T | null;
}

export function startWalk<T>(x: T, slot: Slot): Walk<T> {
  return { x, at: { slot, from: slot, stream: slot }, input: null, reduced: null };
}

/** The position behind a gate that chose `slot`. */
export function passGate({ stream }: Position, gate: Gate, slot: Slot): Position {
  return { slot, from: stream, stream: gate.keepsStream ? widerSlot(stream, slot) : slot };
}

export interface Step {
  readonly name: string;
  /** Set on gate steps: `run` asks the Exec for the slot. */
  readonly gate: Gate | null;
  run<T>(exec: Exec<T>, walk: Walk<T>): void;
}

export interface BlockShape {
  readonly kernel: number;
  readonly stride: number;
  /** Widths of the input and of the output. */
  readonly cin: readonly number[];
  readonly cout: readonly number[];
  /** Widest input and output, in the supernet that the network was cut from if it was. */
  readonly full: { readonly cin: number; readonly cout: number };
  readonly act: Activation;
  readonly norm: NormKind;
  /** Share of the widest input that the attention reduces to; 0: no attention. */
  readonly attention: number;
  /** See ModelSpec. */
  readonly residual: boolean | "identity";
  /** See ModelSpec. */
  readonly actAfterSum: boolean;
  /** Inverted residual: expanded width over the input's. */
  readonly expansion: number;
  /** Bottleneck: channels of a first convolution that does not slim; null: as the others inside the block. */
  readonly squeeze: number | null;
  /** Before the block. */
  readonly upstream: Upstream;
  /** Set where the block holds a gate. */
  readonly gate: { index: number; candidates: readonly number[]; shape: GateShape } | null;
}

function step(name: string, run: Step["run"]): Step {
  return { name, gate: null, run };
}

/** Multiplies x by its attention; leaves the reduced features for a gate. */
function attend<T>(exec: Exec<T>, walk: Walk<T>, attention: Attention): void {
  walk.reduced = exec.conv(exec.globalPool(walk.x), attention.reduce, null, "relu", walk.at);
  const factor = exec.conv(walk.reduced, attention.expand, null, "sigmoid", walk.at);
  walk.x = exec.scale(walk.x, factor);
}

const halve: PoolWindow = { kind: "average", kernel: 2, stride: 2, pad: 0, ceil: true };

/**
 * Widths of a block's output: its input's where that is added as it is and is wider. So it happens in a slice whose route went
 * narrower within a stage; in a supernet both lists are as wide.
 */
export function outputWidths(shape: BlockShape): readonly number[] {
  const { cin, cout } = shape;
  return keepsStream(shape) && widest(cin) > widest(cout) ? cin : cout;
}

/** Whether a block's sum is with its input as it is, so that a narrower block leaves the stream as wide. */
function keepsStream({ residual, stride, full }: BlockShape): boolean {
  return residual !== false && stride === 1 && full.cin === full.cout;
}

/** What the norms of a block depend on that lie behind its gate, if it has one. */
function behindGate({ gate, upstream }: BlockShape): Upstream {
  return gate === null ? upstream : { ...upstream, gates: upstream.gates + 1 };
}

/** The way around a block: identity, or 2x2 average pool where it halves, or 1x1 convolution where its width changes. */
interface Shortcut {
  readonly pool: boolean;
  readonly conv: Conv | null;
  readonly norm: Norm | null;
}

function declareShortcut(declare: Declare, name: string, shape: BlockShape): Shortcut | null {
  if (shape.residual === false) return null;
  const pool = shape.stride === 2;
  if (shape.residual === "identity" && (pool || shape.full.cin !== shape.full.cout)) return null;
  const conv =
    shape.full.cin === shape.full.cout
      ? null
      : declareConv(declare, `${name}.downsample.${pool ? 1 : 0}`, shape.cin, shape.cout);
  return { pool, conv, norm: null };
}

/** ResNet's: one convolution both halves and widens, and a norm follows it. */
function declareProjection(declare: Declare, name: string, shape: BlockShape): Shortcut {
  const { stride, cin, cout } = shape;
  if (keepsStream(shape)) return { pool: false, conv: null, norm: null };
  return {
    pool: false,
    conv: declareConv(declare, `${name}.downsample.0`, cin, cout, { stride }),
    norm: declareNorm(declare, `${name}.downsample.1`, cout, shape.norm, behindGate(shape)),
  };
}

function addShortcut<T>(exec: Exec<T>, walk: Walk<T>, { pool, conv, norm }: Shortcut, act: Activation): void {
  let around = walk.input as T;
  if (pool) around = exec.pool(around, halve);
  if (conv !== null) around = exec.conv(around, conv, norm, "none", walk.at);
  walk.x = exec.add(walk.x, around, act);
}

/**
 * `before`, then the gate if there is one, then `after`: the shape that all blocks with a gate share. The gate reads the attention's
 * reduced features; where there is none, the pooled activation, whose widths are `gateInput`.
 */
function gatedSteps(
  declare: Declare,
  name: string,
  shape: BlockShape,
  attention: Attention | null,
  gateInput: readonly number[],
  before: Step["run"],
  after: Step["run"],
): Step[] {
  if (shape.gate === null) {
    return [
      step(name, (exec, walk) => {
        before(exec, walk);
        after(exec, walk);
      }),
    ];
  }
  const { index, candidates, shape: head } = shape.gate;
  const features = attention === null ? gateInput : attention.reduce.cout;
  const gate = declareGate(declare, `${name}.gate`, index, features, candidates, head, keepsStream(shape));
  return [
    step(`${name} (before the gate)`, (exec, walk) => {
      before(exec, walk);
      if (attention === null) walk.reduced = null; // an earlier block's
    }),
    {
      name: gate.name,
      gate,
      run: (exec, walk) => {
        const reduced = () => {
          walk.reduced ??= exec.globalPool(walk.x);
          return walk.reduced;
        };
        walk.at = passGate(walk.at, gate, exec.gate(gate, reduced, walk.at));
      },
    },
    step(`${name} (after the gate)`, after),
  ];
}

/** Depthwise-separable: depthwise, norm, act, attention | gate | pointwise, norm, act, shortcut (or shortcut, act). */
export function separableBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const shortcut = declareShortcut(declare, name, shape);
  const dw = declareDepthwise(declare, `${name}.conv_dw`, shape.cin, shape.kernel, shape.stride);
  const bn1 = declareNorm(declare, `${name}.bn1`, shape.cin, shape.norm, shape.upstream);
  const attention =
    shape.attention > 0 ? declareAttention(declare, `${name}.gate`, shape.cin, shape.full.cin * shape.attention) : null;
  const pw = declareConv(declare, `${name}.conv_pw`, shape.cin, shape.cout);
  const bn2 = declareNorm(declare, `${name}.bn2`, shape.cout, shape.norm, behindGate(shape));
  return gatedSteps(
    declare,
    name,
    shape,
    attention,
    shape.cin,
    (exec, walk) => {
      walk.input = shortcut === null ? null : walk.x;
      walk.x = exec.depthwise(walk.x, dw, bn1, shape.act, walk.at);
      if (attention !== null) attend(exec, walk, attention);
    },
    (exec, walk) => {
      const sumFirst = shortcut !== null && shape.actAfterSum;
      walk.x = exec.conv(walk.x, pw, bn2, sumFirst ? "none" : shape.act, walk.at);
      if (shortcut !== null) addShortcut(exec, walk, shortcut, sumFirst ? shape.act : "none");
    },
  );
}

/** Inverted residual: pointwise expansion, depthwise, attention | gate | pointwise projection without act, shortcut. */
export function invertedBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const expanded = (c: number) => (shape.expansion === 1 ? c : roundChannels(c * shape.expansion, 8));
  const middle = shape.cin.map(expanded);
  const shortcut = declareShortcut(declare, name, shape);
  // Nothing to expand: MobileNetV2's first block has no such convolution.
  const expand =
    shape.expansion === 1
      ? null
      : {
          conv: declareConv(declare, `${name}.conv_pw`, shape.cin, middle),
          norm: declareNorm(declare, `${name}.bn1`, middle, shape.norm, shape.upstream),
        };
  const dw = declareDepthwise(declare, `${name}.conv_dw`, middle, shape.kernel, shape.stride);
  const bn2 = declareNorm(declare, `${name}.bn2`, middle, shape.norm, shape.upstream);
  const attention =
    shape.attention > 0
      ? declareAttention(declare, `${name}.gate`, middle, expanded(shape.full.cin) * shape.attention)
      : null;
  const pwl = declareConv(declare, `${name}.conv_pwl`, middle, shape.cout);
  const bn3 = declareNorm(declare, `${name}.bn3`, shape.cout, shape.norm, behindGate(shape));
  return gatedSteps(
    declare,
    name,
    shape,
    attention,
    middle,
    (exec, walk) => {
      walk.input = shortcut === null ? null : walk.x;
      if (expand !== null) walk.x = exec.conv(walk.x, expand.conv, expand.norm, shape.act, walk.at);
      walk.x = exec.depthwise(walk.x, dw, bn2, shape.act, walk.at);
      if (attention !== null) attend(exec, walk, attention);
    },
    (exec, walk) => {
      walk.x = exec.conv(walk.x, pwl, bn3, "none", walk.at);
      if (shortcut !== null) addShortcut(exec, walk, shortcut, "none");
    },
  );
}

/** Convolution, norm, act: what ends MobileNetV2. */
export function convBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const { cin, cout, kernel, stride, norm, act, upstream } = shape;
  const conv = declareConv(declare, `${name}.conv`, cin, cout, { kernel, stride });
  const bn1 = declareNorm(declare, `${name}.bn1`, cout, norm, upstream);
  return [
    step(name, (exec, walk) => {
      walk.x = exec.conv(walk.x, conv, bn1, act, walk.at);
    }),
  ];
}

/** Inner channels of a bottleneck block are its output's divided by this. */
export const BOTTLENECK = 4;

/**
 * ResNet's bottleneck: 1x1 reduction, norm, act, attention | gate | kxk, norm, act, 1x1 expansion, norm, shortcut, act. Only a
 * block with `squeeze` has attention: an ordinary ResNet has none. Its input may be wider than the width in force, where a gate
 * within the stage chose narrower than the one before it: what the block does not reach passes on unchanged.
 */
export function bottleneckBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const { cin, cout, kernel, stride, norm, squeeze, upstream } = shape;
  const behind = behindGate(shape);
  const inner = cout.map((c) => c / BOTTLENECK);
  const reduced = squeeze === null ? inner : [squeeze];
  const conv1 = declareConv(declare, `${name}.conv1`, cin, reduced);
  const bn1 = declareNorm(declare, `${name}.bn1`, reduced, norm, upstream);
  const attention =
    squeeze !== null && shape.attention > 0
      ? declareAttention(declare, `${name}.gate`, reduced, squeeze * shape.attention)
      : null;
  const conv2 = declareConv(declare, `${name}.conv2`, reduced, inner, { kernel, stride });
  const bn2 = declareNorm(declare, `${name}.bn2`, inner, norm, behind);
  const conv3 = declareConv(declare, `${name}.conv3`, inner, cout);
  const bn3 = declareNorm(declare, `${name}.bn3`, cout, norm, behind);
  const shortcut = declareProjection(declare, name, shape);
  return gatedSteps(
    declare,
    name,
    shape,
    attention,
    reduced,
    (exec, walk) => {
      walk.input = walk.x;
      walk.x = exec.conv(walk.x, conv1, bn1, shape.act, walk.at);
      if (attention !== null) attend(exec, walk, attention);
    },
    (exec, walk) => {
      walk.x = exec.conv(walk.x, conv2, bn2, shape.act, walk.at);
      walk.x = exec.conv(walk.x, conv3, bn3, "none", walk.at);
      addShortcut(exec, walk, shortcut, shape.act);
      if (shortcut.conv !== null) walk.at = { ...walk.at, stream: walk.at.slot };
    },
  );
}
