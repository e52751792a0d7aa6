/**
 * The honest table: what the dynamic network is worth against everything that the same weights do without its choices. Each
 * number is exact for the samples given; only the intervals speak of images not seen. All accuracies are fractions.
 */

import type { Cascade } from "../io/model-file.js";
import { auc } from "./auc.js";
import { runCascade } from "./cascade.js";
import { envelopeAt, type Mixture, type StaticPoint, slope, upperEnvelope } from "./envelope.js";
import { type Interval, pairedInterval } from "./interval.js";
import {
  checkPredictions,
  type DynamicPredictions,
  type Predictions,
  type RoutePredictions,
  type WidthPredictions,
} from "./predictions.js";

export type RowKind =
  | "width"
  | "largest"
  | "dynamic"
  | "envelope"
  | "random"
  | "routes"
  | "cascade"
  | "gate"
  | "oracle";

export interface Row {
  kind: RowKind;
  /** Number of the width, for rows of kind `width`. */
  width?: number;
  /** Mean a sample. Null with `accuracy`: not available, `note` says why. */
  madds: number | null;
  accuracy: number | null;
  note: string;
}

/** How many samples took each candidate width; with several gates, how often it was chosen at any of them. */
export interface Routes {
  candidates: number[];
  overall: number[];
  /** One row a class of the label, one column a candidate. */
  perClass: number[][];
}

export interface DynamicFacts {
  /** Accuracy minus the static envelope's at the same mean MAdds. */
  minusEnvelope: Interval;
  /** Accuracy minus that of the envelope's corner nearest in MAdds. */
  minusNearest: Interval & { width: number };
  /** Accuracy minus the widest's. */
  minusWidest: Interval & { width: number };
  /** Share of the way from the envelope up to the widest. Null when the envelope is not below the widest. */
  gapRecovered: number | null;
  routes: Routes;
  /**
   * How well the slimmest candidate's confidence, and the gate's score where it was run, tell the samples apart on which that candidate
   * is right. Null when it is right on all samples or on none.
   */
  auc: { confidence: number | null; gate?: number | null };
  /**
   * The width, or route through several gates, that takes more than 99 % of the samples: nothing is then chosen. Null too where dynamic is
   * above the envelope by more than its interval: the few others were chosen well.
   */
  collapse: { width: number | number[]; share: number } | null;
}

export interface Evaluation {
  samples: number;
  classNames: string[];
  rows: Row[];
  /** Corners of the static envelope, cheapest first. */
  envelope: StaticPoint[];
  dynamic: DynamicFacts | null;
}

export function evaluate(p: Predictions): Evaluation {
  checkPredictions(p);
  const points = p.widths.map((w) => ({ width: w.width, madds: w.madds, accuracy: mean(w.correct) }));
  const corners = upperEnvelope(points);
  const rows: Row[] = points.map((point) => ({
    kind: "width",
    ...point,
    note: corners.includes(point) ? "" : "below the envelope",
  }));
  if (p.largest !== undefined) {
    rows.push({
      kind: "largest",
      madds: p.largest.madds,
      accuracy: mean(p.largest.correct),
      note: "wide early stages too",
    });
  }
  if (p.dynamic !== undefined) rows.push(...dynamicRows(p, p.dynamic, points, corners));
  if (p.routes !== undefined) rows.push(routesRow(p.routes));
  rows.push(oracleRow(p.widths));
  return {
    samples: p.labels.length,
    classNames: [...p.classNames],
    rows,
    envelope: corners,
    dynamic: p.dynamic === undefined ? null : dynamicFacts(p, p.dynamic, corners),
  };
}

function dynamicRows(p: Predictions, d: DynamicPredictions, points: StaticPoint[], corners: StaticPoint[]): Row[] {
  const madds = mean(d.madds);
  const mixture = envelopeAt(corners, madds);
  return [
    { kind: "dynamic", madds, accuracy: mean(d.correct), note: describeRouting(d) },
    { kind: "envelope", madds: mixture.madds, accuracy: mixture.accuracy, note: describeMixture(mixture, madds) },
    randomRow(d, points),
    d.routing.by === "gate" ? cascadeRow(p, d) : gateRow(p.gate),
  ];
}

function describeRouting({ routing, choice, candidates }: DynamicPredictions): string {
  if (routing.by === "gate") return "by the gate, its cost included";
  const unsure = choice.reduce((sum, width) => sum + Number(width !== candidates[0]), 0) / choice.length;
  return describeCascade(candidates[0]!, routing, unsure);
}

function describeCascade(slimmest: number, { wider, threshold }: Cascade, unsure: number): string {
  return threshold === 0
    ? `width ${slimmest} alone`
    : `width ${slimmest}, then ${wider} below confidence ${threshold.toFixed(3)}: ${(100 * unsure).toFixed(1)} % of the images`;
}

function gateRow(gate: DynamicPredictions | undefined): Row {
  return gate === undefined
    ? { kind: "gate", madds: null, accuracy: null, note: "n/a: no table to set its λ by; dsnet calibrate measures it" }
    : { kind: "gate", madds: mean(gate.madds), accuracy: mean(gate.correct), note: "its cost included" };
}

function describeMixture({ below, above, weight, madds }: Mixture, budget: number): string {
  if (above !== below) {
    const share = Math.round(100 * weight);
    return `${100 - share} % width ${below.width}, ${share} % width ${above.width}, at random`;
  }
  return madds > budget
    ? `width ${above.width}: nothing static is cheaper`
    : `width ${above.width}: the best for at most dynamic's cost`;
}

/** The same histogram of widths dealt out blindly, in expectation. Needs no gate, so pays none. */
function randomRow(d: DynamicPredictions, points: StaticPoint[]): Row {
  if (d.blind !== undefined) {
    const note = "dynamic's routes, each run on another image, no gate";
    return { kind: "random", madds: mean(d.blind.madds), accuracy: mean(d.blind.correct), note };
  }
  let madds = 0;
  let accuracy = 0;
  for (const point of points) {
    const share = d.choice.reduce((sum, width) => sum + Number(width === point.width), 0) / d.choice.length;
    madds += share * point.madds;
    accuracy += share * point.accuracy;
  }
  return { kind: "random", madds, accuracy, note: "dynamic's histogram, expected value, no gate" };
}

function cascadeRow({ widths, cascade }: Predictions, { candidates }: DynamicPredictions): Row {
  if (cascade === undefined) {
    const note = "n/a: no table of cascades to choose from; dsnet calibrate measures it";
    return { kind: "cascade", madds: null, accuracy: null, note };
  }
  const columns = candidates.map((k) => widths.find(({ width }) => width === k)!);
  const outcomes = { widths: columns, confidence: columns[0]!.confidence, madds: cascade.madds };
  const { madds, accuracy, unsure } = runCascade(outcomes, cascade);
  const none = cascade.threshold === 0 ? ": none that fits helped on held-out images" : "";
  return { kind: "cascade", madds, accuracy, note: `${describeCascade(candidates[0]!, cascade, unsure)}${none}` };
}

/** Fixed routes that chance drew: what the norms, whose statistics know two gates at most, are worth off the uniform widths. */
function routesRow(routes: readonly RoutePredictions[]): Row {
  const found = routes.map(({ madds, correct }) => ({ madds, accuracy: mean(correct) }));
  const accuracies = Float64Array.from(found, ({ accuracy }) => accuracy);
  const percent = (share: number) => (100 * share).toFixed(2);
  return {
    kind: "routes",
    madds: mean(Float64Array.from(found, ({ madds }) => madds)),
    accuracy: mean(accuracies),
    note: `mean of ${routes.length}, from ${percent(Math.min(...accuracies))} to ${percent(Math.max(...accuracies))} %`,
  };
}

/** The slimmest width that is right, else the slimmest. */
function oracleRow(widths: WidthPredictions[]): Row {
  const n = widths[0]!.correct.length;
  let madds = 0;
  let right = 0;
  for (let i = 0; i < n; i++) {
    const first = widths.find((w) => w.correct[i] === 1);
    madds += (first ?? widths[0]!).madds;
    right += Number(first !== undefined);
  }
  return {
    kind: "oracle",
    madds: madds / n,
    accuracy: right / n,
    note: "slimmest width that is right: needs the label",
  };
}

function dynamicFacts(p: Predictions, d: DynamicPredictions, corners: StaticPoint[]): DynamicFacts {
  const n = p.labels.length;
  const byNumber = (width: number) => p.widths.find((w) => w.width === width)!;
  const minus = (other: WidthPredictions) => ({
    width: other.width,
    ...pairedInterval(Float64Array.from(d.correct, (right, i) => right - other.correct[i]!)),
  });

  const madds = mean(d.madds);
  const mixture = envelopeAt(corners, madds);
  // The envelope is read at a mean cost that is itself measured: a costly image also raises the bar by the slope there
  // (the delta method). This term has mean zero, it only widens or narrows the interval.
  const perMadd = slope(mixture.below, mixture.above);
  const below = byNumber(mixture.below.width).correct;
  const above = byNumber(mixture.above.width).correct;
  const minusEnvelope = pairedInterval(
    Float64Array.from(d.correct, (right, i) => {
      const bar = below[i]! + mixture.weight * (above[i]! - below[i]!);
      return right - bar - perMadd * (d.madds[i]! - madds);
    }),
  );
  const nearest = corners.reduce((a, b) => (Math.abs(b.madds - madds) < Math.abs(a.madds - madds) ? b : a));
  const widest = p.widths.at(-1)!;
  const gap = mean(widest.correct) - mixture.accuracy;

  const routes = countRoutes(p, d);
  const constant = commonest(d, n);
  const slimmest = byNumber(routes.candidates[0]!);
  const gate = d.routing.by === "gate" ? d : p.gate;
  return {
    minusEnvelope,
    minusNearest: minus(byNumber(nearest.width)),
    minusWidest: minus(widest),
    gapRecovered: gap > 0 ? (mean(d.correct) - mixture.accuracy) / gap : null,
    routes,
    auc: {
      confidence: auc(slimmest.confidence, slimmest.correct),
      ...(gate !== undefined && { gate: auc(gate.easyScore, slimmest.correct) }),
    },
    collapse: constant.share > 0.99 && minusEnvelope.low <= 0 ? constant : null,
  };
}

/** What most samples took. */
function commonest({ choice }: DynamicPredictions, n: number): NonNullable<DynamicFacts["collapse"]> {
  const gates = choice.length / n;
  const counts = new Map<string, number>();
  let most = "";
  for (let i = 0; i < n; i++) {
    const route = choice.subarray(i * gates, (i + 1) * gates).join(" ");
    counts.set(route, (counts.get(route) ?? 0) + 1);
    if (most === "" || counts.get(route)! > counts.get(most)!) most = route;
  }
  const route = most.split(" ").map(Number);
  return { width: gates === 1 ? route[0]! : route, share: counts.get(most)! / n };
}

function countRoutes(p: Predictions, d: DynamicPredictions): Routes {
  const candidates = [...d.candidates].sort((a, b) => a - b);
  const perClass = p.classNames.map(() => candidates.map(() => 0));
  const gates = d.choice.length / p.labels.length;
  d.choice.forEach((width, i) => {
    perClass[p.labels[Math.floor(i / gates)]!]![candidates.indexOf(width)]! += 1;
  });
  const overall = candidates.map((_, k) => perClass.reduce((sum, row) => sum + row[k]!, 0));
  return { candidates, overall, perClass };
}

function mean(values: Uint8Array | Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}
