/** A network's table from outside, from a model file or a JSON file: every field is checked before anything is built of it. */
import { FormatError } from "../errors.js";
import {
  boolean,
  type Check,
  list,
  nullable,
  number,
  object,
  oneOf,
  optional,
  string,
  such,
  whole,
} from "../io/check.js";
import { checkSpec, type ModelSpec } from "./spec.js";

/** Nothing real is larger; what is, would take memory before anyone could say that it makes no network. */
const MOST = {
  blocks: 256,
  rows: 256,
  widths: 256,
  channels: 2 ** 16,
  side: 2 ** 14,
  classes: 2 ** 20,
  norms: 2 ** 15,
};

const upTo = (most: number, least = 1) => such(whole(least), `at most ${most}`, (x) => x <= most);
const atMost = <T>(items: Check<T[]>, most: number) => such(items, `at most ${most} of them`, (x) => x.length <= most);
const channels = upTo(MOST.channels);
const widths = atMost(list(channels), MOST.widths);
const from0to1 = such(number, "a number from 0 to 1", (x) => x >= 0 && x <= 1);

const stem = object({
  kernel: oneOf(3, 5, 7),
  stride: oneOf(1, 2),
  widths,
  pool: optional(boolean),
  cutFrom: optional(channels),
});

const stage = object({
  block: oneOf("separable", "inverted", "bottleneck", "conv"),
  repeat: upTo(MOST.blocks),
  kernel: oneOf(1, 3, 5),
  stride: oneOf(1, 2),
  widths,
  gates: optional(
    such(list(whole(0)), "ascending positions", (gates) => gates.every((gate, i) => i === 0 || gate > gates[i - 1]!)),
  ),
  expansion: optional(such(number, "a number above 0, up to 64", (x) => x > 0 && x <= 64)),
  squeeze: optional(channels),
  cutFrom: optional(channels),
});

const table = object({
  description: string,
  input: object({ height: upTo(MOST.side), width: upTo(MOST.side), channels: oneOf(1, 3) }),
  stem,
  stages: atMost(list(stage), MOST.rows),
  act: oneOf("swish", "relu"),
  norm: oneOf("bn", "gn"),
  attention: from0to1,
  residual: oneOf(true, false, "identity"),
  actAfterSum: optional(boolean),
  classes: upTo(MOST.classes),
  candidates: nullable(list(whole(0))),
  gate: optional(object({ hidden: upTo(MOST.channels, 0), bias: boolean, act: optional(oneOf("none", "sigmoid")) })),
});

/** `path` names the table in messages. FormatError: a field is missing, unknown or no value of its kind. UsageError: `checkSpec`'s. */
export function readSpec(value: unknown, path: string): ModelSpec {
  const spec = table(value, path) as ModelSpec;
  checkSpec(spec);
  const norms = normStatistics(spec);
  if (norms > MOST.norms) {
    throw new FormatError(
      `${path}: its norms' statistics, of every block at every width, are ${norms}; expected at most ${MOST.norms}`,
    );
  }
  return spec;
}

/** About how many there are to declare: a pair of widths has its own where two gates lie before. */
function normStatistics({ stages }: ModelSpec): number {
  const gates = stages.reduce((sum, stage) => sum + (stage.gates?.length ?? 0), 0);
  const slots = Math.max(...stages.map((stage) => stage.widths.length));
  return stages.reduce((sum, { repeat }) => sum + repeat, 0) * slots ** (gates > 1 ? 2 : 1);
}
