/** What a kernel case is: one record with its tensors, what must be in them afterwards, and within which tolerance. */
import { Philox } from "../../src/random/philox.js";
import type { Numbers, Sums } from "./reference.js";

export type Data = Float32Array | Int32Array;

/** A tensor that the record writes. */
export interface Output {
  readonly size: number;
  /** int32; float32 otherwise. */
  readonly integer?: boolean;
  /** What is in it before the run, where the record adds to it. Otherwise it is filled with NaN, which must not show. */
  readonly before?: Float32Array;
  /** The input it shares its place with. */
  readonly inPlaceOf?: string;
}

export interface Expected {
  /** NaN: must keep its bits. */
  readonly value: Float64Array;
  /** Largest |got - value| that is right. */
  readonly tolerance: Float64Array;
}

export interface Case {
  /** Name of the record: `OP_CONV_DX` is "conv_dx". Fields are named as in kernels/dsn.h. */
  readonly op: string;
  readonly name: string;
  /** The record's integers and floats. Offsets of tensors that are neither input nor output are absent. */
  readonly words: Readonly<Record<string, number>>;
  readonly inputs: Readonly<Record<string, Data>>;
  readonly outputs: Readonly<Record<string, Output>>;
  /** From the float64 reference; computed once. */
  readonly expected: () => Readonly<Record<string, Expected>>;
}

/** Builds a case; its name lists its numbers. */
export function makeCase(
  op: string,
  words: Record<string, number>,
  inputs: Record<string, Data | null>,
  outputs: Record<string, Output | null>,
  expected: () => Record<string, Expected>,
): Case {
  const present = <T>(all: Record<string, T | null>) =>
    Object.fromEntries(Object.entries(all).filter((entry): entry is [string, T] => entry[1] !== null));
  const numbers = Object.entries(words).map(([field, value]) => `${field}=${value}`);
  const tensors = Object.entries(present(outputs)).map(
    ([field, o]) => `${field}${o.inPlaceOf ? `@${o.inPlaceOf}` : ""}`,
  );
  let known: Record<string, Expected> | undefined;
  return {
    op,
    name: `${op} ${numbers.join(" ")} (${Object.keys(present(inputs)).join(" ")} -> ${tensors.join(" ")})`,
    words,
    inputs: present(inputs),
    outputs: present(outputs),
    expected: () => {
      known ??= Object.fromEntries(Object.entries(expected()).filter(([field]) => outputs[field] != null));
      return known;
    },
  };
}

// ---- seeded data of unit scale ----

/** A stream of its own for each case, so that cases may come and go without changing others. */
export const randomOf = (...key: (string | number)[]): Philox => new Philox(20210410, ...key);

export function draw(random: Philox, size: number): Float32Array {
  const values = new Float32Array(size);
  for (let at = 0; at < size; at++) values[at] = random.uniform(-1, 1);
  return values;
}

/** Scales: never near zero, of both signs. */
export const drawFactors = (random: Philox, size: number): Float32Array =>
  draw(random, size).map((v) => (v < -0.5 ? v - 0.5 : Math.abs(v) + 0.5));

export const pick = <T>(random: Philox, choices: readonly T[]): T => choices[random.int(choices.length)]!;

export const between = (random: Philox, low: number, high: number): number => low + random.int(high - low + 1);

// ---- tolerances ----

/** Sums of products: within 1e-6 of the sum of their terms' absolute values. */
export const close = (sums: Sums): Expected => ({
  value: sums.value,
  tolerance: sums.terms.map((terms) => 1e-6 * terms + 1e-7),
});

/** What was there plus the sum. */
export const closeAdded = (sums: Sums, before: Numbers): Expected => ({
  value: sums.value.map((value, at) => value + before[at]!),
  tolerance: sums.terms.map((terms, at) => 1e-6 * (terms + Math.abs(before[at]!)) + 1e-7),
});

/** Element-wise: within 1e-5 of the value, and within 1e-6 of the terms that may cancel in it. */
export const closeEach = (value: Float64Array, terms?: Float64Array): Expected => ({
  value,
  tolerance: value.map((v, at) => 1e-5 * Math.abs(v) + 1e-6 * (terms?.[at] ?? 0) + 1e-37),
});

/**
 * Norms: within 1e-5 of the tensor's scale, its largest element (`cancelling`: the largest sum of terms that cancel), and
 * within 1e-7 of what the subtraction of a rounded mean may cost each element (`subtracted`).
 */
export function closeToScale(
  value: Float64Array,
  { cancelling = value, subtracted }: { cancelling?: Float64Array; subtracted?: Float64Array } = {},
): Expected {
  const scale = cancelling.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return { value, tolerance: value.map((_, at) => 1e-5 * scale + 1e-7 * (1 + (subtracted?.[at] ?? 0))) };
}

export const exact = (value: Float64Array): Expected => ({ value, tolerance: new Float64Array(value.length) });
