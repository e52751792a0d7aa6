/** Runs a network over images and keeps what the honest table needs. */
import type { Backend } from "../backend/backend.js";
import { madds } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import type { Supernet } from "../models/build.js";
import type { Slot } from "../nn/width.js";
import type { DynamicPredictions, WidthPredictions } from "./predictions.js";

export interface Measured {
  labels: Int32Array;
  /** Index of each image in its dataset: broken images are left out. */
  indices: Int32Array;
  widths: WidthPredictions[];
  largest?: { madds: number; correct: Uint8Array };
  dynamic?: DynamicPredictions;
}

export interface MeasureOptions {
  /** Images a call of the engine. */
  batch: number;
  /** Also run the gate. */
  dynamic?: boolean;
  largest?: boolean;
  onProgress?: (images: number) => void;
}

class Column {
  readonly correct: number[] = [];
  readonly confidence: number[] = [];
  readonly predicted: number[] = [];

  /** Reads the logits of one batch. */
  add(logits: Float32Array, labels: Int32Array, classes: number): void {
    for (let i = 0; i < labels.length; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      let best = 0;
      for (let c = 1; c < classes; c++) if (row[c]! > row[best]!) best = c;
      let sum = 0;
      for (const logit of row) sum += Math.exp(logit - row[best]!);
      this.predicted.push(best);
      this.correct.push(best === labels[i] ? 1 : 0);
      this.confidence.push(1 / sum);
    }
  }
}

/** Every numbered width over every image, and `largest` and the gate where asked for. */
export async function measure(
  backend: Backend,
  net: Supernet,
  span: number,
  batches: AsyncIterable<Batch>,
  options: MeasureOptions,
): Promise<Measured> {
  const { batch, dynamic = false, largest = false, onProgress } = options;
  const numbered = Array.from({ length: net.widths }, (_, k) => k);
  const slots: Slot[] = largest ? [...numbered, "largest"] : numbered;
  const plan = new Plan(backend, net, span, { batch, slots, dynamic });
  try {
    const classes = net.spec.classes;
    const columns = new Map<Slot | "dynamic", Column>(slots.map((slot) => [slot, new Column()]));
    if (dynamic) columns.set("dynamic", new Column());
    const labels: number[] = [];
    const indices: number[] = [];
    const routes: number[][] = [];
    const easy: number[] = [];
    const gateCosts = (net.gates[0]?.candidates ?? []).map((k) => madds(net, k));
    const read = (n: number) => backend.f32.subarray(plan.logits / 4, plan.logits / 4 + n * classes);
    for await (const { images, labels: truth, indices: which, size } of batches) {
      backend.f32.set(images, plan.input / 4);
      for (const slot of slots) {
        plan.run(size, slot);
        columns.get(slot)!.add(read(size), truth, classes);
      }
      if (dynamic) {
        easy.push(...easiness(plan.gateScores(size), gateCosts));
        routes.push(...plan.runDynamic(size));
        columns.get("dynamic")!.add(read(size), truth, classes);
      }
      labels.push(...truth);
      indices.push(...which);
      onProgress?.(labels.length);
    }
    const result: Measured = {
      labels: Int32Array.from(labels),
      indices: Int32Array.from(indices),
      widths: numbered.map((width) => {
        const { correct, confidence, predicted } = columns.get(width)!;
        return {
          width,
          madds: madds(net, width),
          correct: Uint8Array.from(correct),
          confidence: Float32Array.from(confidence),
          predicted: Int32Array.from(predicted),
        };
      }),
    };
    if (largest) {
      result.largest = { madds: madds(net, "largest"), correct: Uint8Array.from(columns.get("largest")!.correct) };
    }
    if (dynamic) {
      const cost = routeCosts(net);
      result.dynamic = {
        // With several gates the last choice stands for the image.
        choice: Int32Array.from(routes, (route) => route[route.length - 1]!),
        madds: Float64Array.from(routes, cost),
        correct: Uint8Array.from(columns.get("dynamic")!.correct),
        easyScore: Float32Array.from(easy),
        candidates: [...net.gates[0]!.candidates],
      };
    }
    return result;
  } finally {
    plan.dispose();
  }
}

/** MAdds of a route, the gates' heads included; each route is counted once. */
function routeCosts(net: Supernet): (route: readonly number[]) => number {
  const known = new Map<string, number>();
  return (route) => {
    const key = route.join(" ");
    const cost = known.get(key) ?? madds(net, route, true);
    known.set(key, cost);
    return cost;
  };
}

/** Minus the cost that the gate's probabilities expect, as a share of the widest candidate's, for each row of scores. */
function easiness(scores: Float32Array, costs: readonly number[]): number[] {
  const count = costs.length;
  const widest = costs[count - 1]!;
  return Array.from({ length: scores.length / count }, (_, i) => {
    const row = scores.subarray(i * count, (i + 1) * count);
    const top = row.reduce((a, b) => Math.max(a, b));
    const weights = Array.from(row, (s) => Math.exp(s - top));
    const sum = weights.reduce((a, b) => a + b, 0);
    return -weights.reduce((cost, weight, k) => cost + (weight / sum) * (costs[k]! / widest), 0);
  });
}
