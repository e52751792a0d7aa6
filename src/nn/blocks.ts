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
  type NormKind,
} from "./layers.js";
import { roundChannels, type Slot } from "./width.js";

/** Where a walk stands: the activation, the slot in force, and what a block keeps for its second half. */
export interface Walk<T> {
  x: T;
  slot: Slot;
  /** The block's input, where there is a residual sum. */
  input: T | null;
  /** The attention's reduced features, for the gate. */
  reduced: T | null;
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
  readonly residual: boolean;
  /** Inverted residual: expanded width over the input's. */
  readonly expansion: number;
  /** Set where the block holds a gate. */
  readonly gate: { index: number; candidates: readonly number[]; shape: GateShape } | null;
}

function step(name: string, run: Step["run"]): Step {
  return { name, gate: null, run };
}

/** Multiplies x by its attention; leaves the reduced features for a gate. */
function attend<T>(exec: Exec<T>, walk: Walk<T>, attention: Attention): void {
  walk.reduced = exec.conv(exec.globalPool(walk.x), attention.reduce, null, "relu", walk.slot);
  const factor = exec.conv(walk.reduced, attention.expand, null, "sigmoid", walk.slot);
  walk.x = exec.scale(walk.x, factor);
}

const halve: PoolWindow = { kind: "average", kernel: 2, stride: 2, pad: 0, ceil: true };

/** The way around a block: identity, or 2x2 average pool where it halves, or 1x1 convolution where its width changes. */
interface Shortcut {
  readonly pool: boolean;
  readonly conv: Conv | null;
}

function declareShortcut(declare: Declare, name: string, shape: BlockShape): Shortcut | null {
  if (!shape.residual) return null;
  const pool = shape.stride === 2;
  const conv =
    shape.full.cin === shape.full.cout
      ? null
      : declareConv(declare, `${name}.downsample.${pool ? 1 : 0}`, shape.cin, shape.cout);
  return { pool, conv };
}

function addShortcut<T>(exec: Exec<T>, walk: Walk<T>, shortcut: Shortcut): void {
  let around = walk.input as T;
  if (shortcut.pool) around = exec.pool(around, halve);
  if (shortcut.conv !== null) around = exec.conv(around, shortcut.conv, null, "none", walk.slot);
  walk.x = exec.add(walk.x, around);
}

/** `before`, then the gate if there is one, then `after`: the shape that both blocks share. */
function gatedSteps(
  declare: Declare,
  name: string,
  shape: BlockShape,
  attention: Attention | null,
  before: Step["run"],
  after: Step["run"],
): Step[] {
  if (shape.gate === null || attention === null) {
    return [
      step(name, (exec, walk) => {
        before(exec, walk);
        after(exec, walk);
      }),
    ];
  }
  const { index, candidates, shape: head } = shape.gate;
  const gate = declareGate(declare, `${name}.gate`, index, attention, candidates, head);
  return [
    step(`${name} (before the gate)`, before),
    {
      name: gate.name,
      gate,
      run: (exec, walk) => {
        walk.slot = exec.gate(gate, walk.reduced!, walk.slot);
      },
    },
    step(`${name} (after the gate)`, after),
  ];
}

/** Depthwise-separable: depthwise, norm, act, attention | gate | pointwise, norm, act, shortcut. */
export function separableBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const shortcut = declareShortcut(declare, name, shape);
  const dw = declareDepthwise(declare, `${name}.conv_dw`, shape.cin, shape.kernel, shape.stride);
  const bn1 = declareNorm(declare, `${name}.bn1`, shape.cin, shape.norm);
  const attention =
    shape.attention > 0 ? declareAttention(declare, `${name}.gate`, shape.cin, shape.full.cin * shape.attention) : null;
  const pw = declareConv(declare, `${name}.conv_pw`, shape.cin, shape.cout);
  const bn2 = declareNorm(declare, `${name}.bn2`, shape.cout, shape.norm);
  return gatedSteps(
    declare,
    name,
    shape,
    attention,
    (exec, walk) => {
      walk.input = shortcut === null ? null : walk.x;
      walk.x = exec.depthwise(walk.x, dw, bn1, shape.act, walk.slot);
      if (attention !== null) attend(exec, walk, attention);
    },
    (exec, walk) => {
      walk.x = exec.conv(walk.x, pw, bn2, shape.act, walk.slot);
      if (shortcut !== null) addShortcut(exec, walk, shortcut);
    },
  );
}

/** Inverted residual: pointwise expansion, depthwise, attention | gate | pointwise projection without act, shortcut. */
export function invertedBlock(declare: Declare, name: string, shape: BlockShape): Step[] {
  const expanded = (c: number) => roundChannels(c * shape.expansion, 8);
  const middle = shape.cin.map(expanded);
  const shortcut = declareShortcut(declare, name, shape);
  const pw = declareConv(declare, `${name}.conv_pw`, shape.cin, middle);
  const bn1 = declareNorm(declare, `${name}.bn1`, middle, shape.norm);
  const dw = declareDepthwise(declare, `${name}.conv_dw`, middle, shape.kernel, shape.stride);
  const bn2 = declareNorm(declare, `${name}.bn2`, middle, shape.norm);
  const attention =
    shape.attention > 0
      ? declareAttention(declare, `${name}.gate`, middle, expanded(shape.full.cin) * shape.attention)
      : null;
  const pwl = declareConv(declare, `${name}.conv_pwl`, middle, shape.cout);
  const bn3 = declareNorm(declare, `${name}.bn3`, shape.cout, shape.norm);
  return gatedSteps(
    declare,
    name,
    shape,
    attention,
    (exec, walk) => {
      walk.input = shortcut === null ? null : walk.x;
      walk.x = exec.conv(walk.x, pw, bn1, shape.act, walk.slot);
      walk.x = exec.depthwise(walk.x, dw, bn2, shape.act, walk.slot);
      if (attention !== null) attend(exec, walk, attention);
    },
    (exec, walk) => {
      walk.x = exec.conv(walk.x, pwl, bn3, "none", walk.slot);
      if (shortcut !== null) addShortcut(exec, walk, shortcut);
    },
  );
}
