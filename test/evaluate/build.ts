/** Predictions from strings of 1 (right) and 0 (wrong), and a seeded source of uniform numbers. */
import type { DynamicPredictions, Predictions, WidthPredictions } from "../../src/evaluate/predictions.js";

export function bits(text: string): Uint8Array {
  return Uint8Array.from(text, Number);
}

export interface WidthCase {
  madds: number;
  correct: Uint8Array;
  confidence?: number[];
}

/** Widths 0, 1, ...; labels cycle through the classes; a wrong prediction is the next class. */
export function build(cases: WidthCase[], more: Partial<Predictions> = {}, classes = 2): Predictions {
  const labels = Int32Array.from(cases[0]!.correct, (_, i) => i % classes);
  return {
    labels,
    classNames: Array.from({ length: classes }, (_, c) => `class ${c}`),
    widths: cases.map((each, width) => buildWidth(width, each, labels, classes)),
    ...more,
  };
}

function buildWidth(width: number, each: WidthCase, labels: Int32Array, classes: number): WidthPredictions {
  return {
    width,
    madds: each.madds,
    correct: each.correct,
    confidence: Float32Array.from(each.correct, (_, i) => each.confidence?.[i] ?? 0.5),
    predicted: labels.map((label, i) => (each.correct[i] === 1 ? label : (label + 1) % classes)),
  };
}

/** A gate that sends sample i to `choice[i]` and costs `gate` MAdds. */
export function route(p: Predictions, choice: number[], gate = 0, easyScore?: number[]): DynamicPredictions {
  return {
    routing: { by: "gate", lambda: 0 },
    choice: Int32Array.from(choice),
    madds: Float64Array.from(choice, (width) => p.widths[width]!.madds + gate),
    correct: Uint8Array.from(choice, (width, i) => p.widths[width]!.correct[i]!),
    easyScore: Float32Array.from(choice, (width, i) => easyScore?.[i] ?? (width === 0 ? 1 : 0)),
    candidates: p.widths.map((w) => w.width),
  };
}

/** Mulberry32: enough for synthetic data. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
