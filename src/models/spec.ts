/** A network as a table: a stem, typed rows of stages, a classifier. Building it is models/build.ts. */
import { UsageError } from "../errors.js";
import { BOTTLENECK } from "../nn/blocks.js";
import type { GateShape, NormKind } from "../nn/layers.js";
import { channelsAt, widest } from "../nn/width.js";

export interface StemSpec {
  kernel: 3 | 5 | 7;
  stride: 1 | 2;
  /** Output channels, narrowest first. */
  widths: number[];
  /** 3×3 maximum pool with stride 2 behind it, as in ResNet. */
  pool?: boolean;
  /** As of a stage. */
  cutFrom?: number;
}

export interface StageSpec {
  block: "separable" | "inverted" | "bottleneck" | "conv";
  repeat: number;
  /** Of the depthwise convolution, of the middle one in bottleneck blocks, of the only one in `conv`. */
  kernel: 1 | 3 | 5;
  /** Of the first block. */
  stride: 1 | 2;
  /** Output channels, narrowest first. From the first gate on, all stages have as many entries as there are widths. */
  widths: number[];
  /** Blocks that hold a gate, by position in the stage. */
  gates?: number[];
  /** Inverted blocks: expanded over input width. */
  expansion?: number;
  /**
   * Bottleneck blocks: channels of the first convolution, which attention and gate read, and which then does not slim. It
   * holds for the blocks with a gate, or for all of a stage without gates (as a slice has them).
   */
  squeeze?: number;
  /**
   * Widest output channels in the supernet that this row was cut from (models/slice.ts), where they are more than `widths` has.
   * Attention's size and the kind of shortcut go by them.
   */
  cutFrom?: number;
}

export interface ModelSpec {
  /** One line for `dsnet inspect --list`. */
  description: string;
  input: { height: number; width: number; channels: 1 | 3 };
  stem: StemSpec;
  stages: StageSpec[];
  act: "swish" | "relu";
  norm: NormKind;
  /**
   * Attention's share of the widest input; 0: none, so that a gate reads the pooled activation itself. Bottleneck blocks have it
   * only with `squeeze`, of that.
   */
  attention: number;
  /** Sums around blocks; `identity`: only around those that change neither size nor width. Bottleneck blocks always have them. */
  residual: boolean | "identity";
  /** Separable blocks: the activation behind the residual sum, as in ResNet; the published block's is before it. */
  actAfterSum?: boolean;
  classes: number;
  /** Widths each gate chooses among; null: all. */
  candidates: number[] | null;
  /** What the slimming heads are made of; the paper's where left out. */
  gate?: GateShape;
}

/** `from, from + by, ... to`, both ends included. */
export function steps(from: number, to: number, by: number): number[] {
  const list: number[] = [];
  for (let c = from; c <= to; c += by) list.push(c);
  return list;
}

/** Widest output channels of a row, in the supernet that it was cut from if it was. */
export function fullWidth({ widths, cutFrom }: Pick<StageSpec, "widths" | "cutFrom">): number {
  return cutFrom ?? widest(widths);
}

export function gateCount(spec: ModelSpec): number {
  return spec.stages.reduce((sum, { gates = [] }) => sum + gates.length, 0);
}

/** Channels of a block's first convolution where they are fixed, see `StageSpec.squeeze`. */
export function squeezeOf({ squeeze, gates = [] }: StageSpec, block: number): number | null {
  return squeeze !== undefined && (gates.length === 0 || gates.includes(block)) ? squeeze : null;
}

/** Numbered widths: as many as the widest-spread stage has entries behind the first gate, 1 where there is no gate. */
export function widthCount(spec: ModelSpec): number {
  const gated = spec.stages.findIndex((stage) => (stage.gates ?? []).length > 0);
  return gated < 0 ? 1 : Math.max(...spec.stages.slice(gated).map((stage) => stage.widths.length));
}

/** Throws UsageError, naming the row, where a table makes no network. */
export function checkSpec(spec: ModelSpec): void {
  const n = widthCount(spec);
  const gated = spec.stages.findIndex((stage) => (stage.gates ?? []).length > 0);
  const rows: [string, StemSpec | StageSpec, boolean][] = [
    ["stem", spec.stem, false],
    ...spec.stages.map((s, i): [string, StageSpec, boolean] => [`stage ${i}`, s, gated >= 0 && i >= gated]),
  ];
  for (const [row, { widths, cutFrom = Number.MAX_SAFE_INTEGER }, slim] of rows) {
    if (widths.length === 0 || widths.some((c, i) => !Number.isInteger(c) || c < 1 || c < (widths[i - 1] ?? 1))) {
      throw new UsageError(`${row}: expected ascending channel counts, got [${widths.join(", ")}]`);
    }
    if (slim && widths.length !== n && widths.length !== 1) {
      throw new UsageError(`${row}: expected 1 or ${n} widths behind the first gate, got ${widths.length}`);
    }
    if (!Number.isSafeInteger(cutFrom) || cutFrom < widest(widths)) {
      throw new UsageError(
        `${row}: expected cutFrom to be at least its widest width, ${widest(widths)}, got ${cutFrom}`,
      );
    }
  }
  spec.stages.forEach((stage, i) => {
    for (const gate of stage.gates ?? []) {
      if (!Number.isInteger(gate) || gate < 0 || gate >= stage.repeat) {
        throw new UsageError(`stage ${i}: expected gates in blocks 0..${stage.repeat - 1}, got ${gate}`);
      }
      if (stage.block === "conv") throw new UsageError(`stage ${i}: a conv block cannot hold a gate`);
      if (spec.attention === 0 && stage.squeeze === undefined && inputWidths(spec, i, gate).length > 1) {
        throw new UsageError(`stage ${i}: where several widths come in, a gate needs attention > 0 to read them alike`);
      }
    }
    if (stage.kernel === 1 && (stage.block === "separable" || stage.block === "inverted")) {
      throw new UsageError(`stage ${i}: expected a kernel of 3 or 5, which a depthwise convolution has, got 1`);
    }
    checkBottleneck(stage, i, spec.residual);
  });
  const act = spec.gate?.act ?? "none";
  if (act !== "none" && act !== "sigmoid") throw new UsageError(`gate.act: expected none or sigmoid, got ${act}`);
  const candidates = spec.candidates ?? [0];
  if (
    candidates.length === 0 ||
    candidates.some((k, i) => !Number.isInteger(k) || k < 0 || k >= n || k <= (candidates[i - 1] ?? -1))
  ) {
    throw new UsageError(`candidates: expected ascending widths 0..${n - 1}, got [${candidates.join(", ")}]`);
  }
  checkStreams(spec, n);
}

/** Widths that come into a block. */
function inputWidths({ stem, stages }: ModelSpec, stage: number, block: number): readonly number[] {
  return (block > 0 ? stages[stage]! : (stages[stage - 1] ?? stem)).widths;
}

function checkBottleneck(
  { block, widths, gates = [], squeeze }: StageSpec,
  i: number,
  residual: ModelSpec["residual"],
) {
  if (block !== "bottleneck") {
    if (squeeze !== undefined) throw new UsageError(`stage ${i}: only bottleneck blocks have a squeeze`);
    return;
  }
  if (residual !== true) throw new UsageError(`stage ${i}: bottleneck blocks need residual: true, got ${residual}`);
  if (gates.length > 0 && squeeze === undefined) {
    throw new UsageError(`stage ${i}: expected squeeze, the channels that the gates' blocks begin with`);
  }
  if (squeeze !== undefined && (!Number.isInteger(squeeze) || squeeze < 1)) {
    throw new UsageError(`stage ${i}: expected squeeze to be a channel count, got ${squeeze}`);
  }
  const odd = widths.find((c) => c % BOTTLENECK !== 0);
  if (odd !== undefined) {
    throw new UsageError(`stage ${i}: expected multiples of ${BOTTLENECK} for bottleneck blocks, got ${odd}`);
  }
}

/**
 * Follows the residual stream along every route. A block adds its input as it is where no convolution fits its width; where that
 * is wider than its output it stays so, which bottleneck blocks can do; plain convolutions can read it, other blocks (whose norms are for a width) cannot.
 */
function checkStreams(spec: ModelSpec, n: number): void {
  let before: StemSpec | StageSpec = spec.stem;
  /** Slots and stream widths that may come in. */
  let streams = [{ slot: 0, channels: channelsAt(spec.stem.widths, 0) }];
  spec.stages.forEach((stage, i) => {
    const { block, widths, repeat, stride, gates = [] } = stage;
    for (let j = 0; j < repeat; j++) {
      const where = `stage ${i}, block ${j}`;
      const same = fullWidth(before) === fullWidth(stage);
      const halves = j === 0 && stride === 2;
      const projects = halves && (block === "bottleneck" || spec.residual === "identity");
      const adds = spec.residual !== false && block !== "conv" && same && !projects;
      if (block !== "bottleneck" && block !== "conv") {
        const { widths: cin } = before;
        if (streams.some(({ slot, channels }) => channels > channelsAt(cin, slot))) {
          throw new UsageError(
            `${where}: its input may be wider than the width in force, which only bottleneck and conv blocks read`,
          );
        }
      }
      const next = new Map<string, (typeof streams)[number]>();
      for (const { slot, channels } of streams) {
        for (const k of gates.includes(j) ? Array.from({ length: n }, (_, s) => s) : [slot]) {
          const out = channelsAt(widths, k);
          if (adds && channels > out && block !== "bottleneck") {
            throw new UsageError(
              `${where}: its residual sum would add an input wider than the output. ` +
                "Put the gate in a block that changes the widest width, or set residual to false",
            );
          }
          const stream = { slot: k, channels: adds ? Math.max(channels, out) : out };
          next.set(`${k} ${stream.channels}`, stream);
        }
      }
      streams = [...next.values()];
      before = stage;
    }
  });
}
