/** A network as a table: a stem, typed rows of stages, a classifier. Building it is models/build.ts. */
import { UsageError } from "../errors.js";
import type { GateShape, NormKind } from "../nn/layers.js";
import { channelsAt, widest } from "../nn/width.js";

export interface StemSpec {
  kernel: 3 | 5 | 7;
  stride: 1 | 2;
  /** Output channels, narrowest first. */
  widths: number[];
  /** As of a stage. */
  cutFrom?: number;
}

export interface StageSpec {
  block: "separable" | "inverted";
  repeat: number;
  /** Of the depthwise convolution. */
  kernel: 3 | 5;
  /** Of the first block. */
  stride: 1 | 2;
  /** Output channels, narrowest first. From the first gate on, all stages have as many entries as there are widths. */
  widths: number[];
  /** Blocks that hold a gate, by position in the stage. */
  gates?: number[];
  /** Inverted blocks: expanded over input width. */
  expansion?: number;
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
  /** Attention's share of the widest input; 0: none (a gate needs it). */
  attention: number;
  residual: boolean;
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
      if (spec.attention <= 0) throw new UsageError(`stage ${i}: a gate needs attention > 0, its features feed it`);
    }
  });
  const candidates = spec.candidates ?? [0];
  if (
    candidates.length === 0 ||
    candidates.some((k, i) => !Number.isInteger(k) || k < 0 || k >= n || k <= (candidates[i - 1] ?? -1))
  ) {
    throw new UsageError(`candidates: expected ascending widths 0..${n - 1}, got [${candidates.join(", ")}]`);
  }
  if (spec.residual) checkResiduals(spec, n);
}

/** Where the input itself is added (no convolution fits its width), it may never be wider than the output. */
function checkResiduals(spec: ModelSpec, n: number): void {
  let before: StemSpec | StageSpec = spec.stem;
  let slots = [0];
  spec.stages.forEach((stage, i) => {
    const { widths: cout, repeat, gates = [] } = stage;
    for (let j = 0; j < repeat; j++) {
      const gate = gates.includes(j);
      const wider = slots.some((k) => channelsAt(before.widths, k) > channelsAt(cout, gate ? 0 : k));
      if (wider && fullWidth(before) === fullWidth(stage)) {
        throw new UsageError(
          `stage ${i}, block ${j}: its residual sum would add an input wider than the output. ` +
            "Put the gate in a block that changes the widest width, or set residual to false",
        );
      }
      if (gate) slots = Array.from({ length: n }, (_, k) => k);
      before = stage;
    }
  });
}
