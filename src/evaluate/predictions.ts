/**
 * What running the network over a validation part leaves behind: plain data, one value a sample. Every figure of the
 * honest table is computed from this and nothing else.
 */

import { DataError, ShapeError, UsageError } from "../errors.js";
import type { Cascade, Routing } from "../io/model-file.js";

/** One numbered width, run over every sample. */
export interface WidthPredictions {
  width: number;
  /** The whole static network at this width. */
  madds: number;
  /** 1 where top-1 equals the label. */
  correct: Uint8Array;
  /** Top-1 softmax probability. */
  confidence: Float32Array;
  /** Top-1 class. */
  predicted: Int32Array;
}

/** The network that chooses its width. */
export interface DynamicPredictions {
  /** How it does. */
  routing: Routing;
  /** Width numbers that each sample took, [sample][gate]; of `candidates`. */
  choice: Int32Array;
  /** MAdds spent on each sample, all that the choice took included. */
  madds: Float64Array;
  correct: Uint8Array;
  /** How easy the sample is found, in any unit. */
  easyScore: Float32Array;
  /** Width numbers that are chosen among, ascending. */
  candidates: number[];
  /** With several gates: the same routes dealt out to the samples blindly, without the gates' cost. */
  blind?: { madds: Float64Array; correct: Uint8Array };
}

/** A route through several gates, run over every sample without them. */
export interface RoutePredictions {
  /** A width for each gate. */
  route: readonly number[];
  madds: number;
  correct: Uint8Array;
}

export interface Predictions {
  labels: Int32Array;
  classNames: string[];
  /** Every numbered width, ascending in number and in MAdds. The last is the widest. */
  widths: WidthPredictions[];
  /** The widest with wide early stages too: a row of its own, never a denominator. */
  largest?: { madds: number; correct: Uint8Array };
  dynamic?: DynamicPredictions;
  /** The gate's, where `dynamic` is a cascade. */
  gate?: DynamicPredictions;
  /** Random routes, where the network has several gates. */
  routes?: RoutePredictions[];
  /** Where `dynamic` is by the gate: what held-out images chose, and what it spends on a sample that ends at each of its candidates. */
  cascade?: (Cascade & { madds: readonly number[] }) | undefined;
}

/** Refuses data that would make the table lie: lengths, order, labels and correctness must agree. */
export function checkPredictions(p: Predictions): void {
  const classes = p.classNames.length;
  checkWidths("widths", p.labels, p.widths, classes);
  const n = p.labels.length;
  if (p.largest !== undefined) {
    checkLength("largest.correct", p.largest.correct, n);
    checkMadds("largest.madds", p.largest.madds);
  }
  if (p.dynamic !== undefined) checkDynamic(p.dynamic, p.widths, n);
  if (p.gate !== undefined) checkDynamic(p.gate, p.widths, n);
  if (p.cascade !== undefined && p.dynamic !== undefined) {
    checkLength("cascade.madds", p.cascade.madds, p.dynamic.candidates.length, "a candidate");
    for (const madds of p.cascade.madds) checkMadds("cascade.madds", madds);
    if (!p.dynamic.candidates.includes(p.cascade.wider)) {
      const among = p.dynamic.candidates.join(", ");
      throw new UsageError(`cascade.wider: expected one of the candidates ${among}, got ${p.cascade.wider}.`);
    }
  }
}

function checkWidths(name: string, labels: Int32Array, widths: WidthPredictions[], classes: number): void {
  if (labels.length === 0) throw new DataError(`${name}: expected at least one labelled sample, got none.`);
  if (widths.length === 0) throw new UsageError(`${name}: expected at least one numbered width, got none.`);
  const outside = labels.find((label) => label < 0 || label >= classes);
  if (outside !== undefined) {
    throw new DataError(`labels: expected 0 to ${classes - 1} (${classes} class names), got ${outside}.`);
  }
  widths.forEach((w, position) => {
    const at = `${name}[${position}]`;
    checkLength(`${at}.correct`, w.correct, labels.length);
    checkLength(`${at}.confidence`, w.confidence, labels.length);
    checkLength(`${at}.predicted`, w.predicted, labels.length);
    checkMadds(`${at}.madds`, w.madds);
    const before = widths[position - 1];
    if (before !== undefined && !(w.width > before.width && w.madds > before.madds)) {
      throw new UsageError(
        `${at}: expected more than width ${before.width} at ${before.madds} MAdds, got width ${w.width} at ${w.madds}. ` +
          "List the widths from slimmest to widest.",
      );
    }
    w.correct.forEach((right, i) => {
      if (right !== Number(w.predicted[i] === labels[i])) {
        throw new DataError(
          `${at}: correct[${i}] is ${right}, but class ${w.predicted[i]} was predicted for label ${labels[i]}.`,
        );
      }
    });
    const unsure = w.confidence.findIndex((c) => !(c >= 0 && c <= 1.0001));
    if (unsure >= 0) {
      throw new DataError(
        `${at}.confidence: expected probabilities, got ${w.confidence[unsure]} for sample ${unsure}.`,
      );
    }
  });
}

function checkDynamic(d: DynamicPredictions, widths: WidthPredictions[], n: number): void {
  if (d.choice.length === 0 || d.choice.length % n !== 0) {
    throw new ShapeError(`dynamic.choice: expected ${n} values for each gate, got ${d.choice.length}.`);
  }
  checkLength("dynamic.madds", d.madds, n);
  checkLength("dynamic.correct", d.correct, n);
  checkLength("dynamic.easyScore", d.easyScore, n);
  const known = new Set(widths.map((w) => w.width));
  const stranger = d.candidates.find((width) => !known.has(width));
  if (d.candidates.length === 0 || stranger !== undefined) {
    throw new UsageError(
      `dynamic.candidates: expected some of the widths ${[...known].join(", ")}, got ${stranger ?? "none"}.`,
    );
  }
  const offered = new Set(d.candidates);
  if (offered.size < d.candidates.length) {
    throw new UsageError(`dynamic.candidates: expected each width once, got ${d.candidates.join(", ")}.`);
  }
  const elsewhere = d.choice.find((width) => !offered.has(width));
  if (elsewhere !== undefined) {
    throw new UsageError(`dynamic.choice: expected candidates (${d.candidates.join(", ")}), got width ${elsewhere}.`);
  }
  d.madds.forEach((madds, i) => {
    checkMadds(`dynamic.madds[${i}]`, madds);
  });
  const broken = d.easyScore.findIndex((score) => !Number.isFinite(score));
  if (broken >= 0) {
    throw new DataError(`dynamic.easyScore: expected finite scores, got ${d.easyScore[broken]} for sample ${broken}.`);
  }
}

function checkLength(name: string, values: ArrayLike<number>, n: number, of = "a label"): void {
  if (values.length !== n) throw new ShapeError(`${name}: expected ${n} values, one ${of}, got ${values.length}.`);
}

function checkMadds(name: string, madds: number): void {
  if (!(madds > 0 && Number.isFinite(madds))) throw new UsageError(`${name}: expected a positive count, got ${madds}.`);
}
