/** Runs a network over images and keeps what the honest table needs. */
import type { Backend } from "../backend/backend.js";
import { cascadeCosts, madds } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import { confidenceOf } from "../engine/confidence.js";
import { Plan } from "../engine/plan.js";
import type { Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Gate } from "../nn/layers.js";
import type { Slot } from "../nn/width.js";
import { Philox } from "../random/philox.js";
import type { DynamicPredictions, RoutePredictions, WidthPredictions } from "./predictions.js";

export interface Measured {
  labels: Int32Array;
  /** Index of each image in its dataset: broken images are left out. */
  indices: Int32Array;
  widths: WidthPredictions[];
  largest?: { madds: number; correct: Uint8Array };
  /** `predicted`: top-1 class. */
  dynamic?: DynamicPredictions & { predicted: Int32Array };
  gate?: DynamicPredictions;
  routes?: RoutePredictions[];
}

export interface MeasureOptions {
  /** Images a call of the engine. */
  batch: number;
  /** Also choose the width so. */
  routing?: Routing | undefined;
  /** And by the gate at this λ, where `routing` is a cascade. */
  gateLambda?: number | undefined;
  largest?: boolean;
  /** Also run so many random routes, where there are several gates. Each is one more pass over the images. */
  routes?: number;
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
      this.predicted.push(best);
      this.correct.push(best === labels[i] ? 1 : 0);
      this.confidence.push(confidenceOf(row));
    }
  }
}

/** Every image at the width that `routing` chooses. */
class Routed {
  readonly #plan: Plan;
  readonly #net: Supernet;
  readonly #routing: Routing;
  readonly #column = new Column();
  readonly #routes: number[][] = [];
  readonly #easy: number[] = [];

  constructor(plan: Plan, net: Supernet, routing: Routing) {
    this.#plan = plan;
    this.#net = net;
    this.#routing = routing;
  }

  /** Runs the first n images of the plan's input; returns the widths chosen, [image][gate]. */
  run(n: number, logits: () => Float32Array, labels: Int32Array): number[][] {
    const { gates, spec } = this.#net;
    if (gates.length === 1) this.#easy.push(...this.#easiness(n, logits));
    const taken = this.#plan.runRouted(n, this.#routing);
    this.#routes.push(...taken);
    this.#column.add(logits(), labels, spec.classes);
    return taken;
  }

  /** How easy each image is found, by what decides: the slimmest width's confidence, or the gate's scores. */
  #easiness(n: number, logits: () => Float32Array): number[] {
    const { candidates, act } = this.#net.gates[0]!;
    if (this.#routing.by === "gate") {
      const costs = candidates.map((k) => madds(this.#net, k));
      return easiness(this.#plan.gateScores(n), costs, act);
    }
    this.#plan.run(n, candidates[0]!);
    const rows = logits();
    const { classes } = this.#net.spec;
    return Array.from({ length: n }, (_, i) => confidenceOf(rows.subarray(i * classes, (i + 1) * classes)));
  }

  predictions(): DynamicPredictions & { predicted: Int32Array } {
    const net = this.#net;
    const { candidates } = net.gates[0]!;
    const cascade = this.#routing.by === "cascade" ? cascadeCosts(net) : null;
    const cost =
      cascade === null ? routeCosts(net, true) : ([k]: readonly number[]) => cascade[candidates.indexOf(k!)]!;
    const spent = Float64Array.from(this.#routes, cost);
    const { correct, predicted } = this.#column;
    return {
      routing: this.#routing,
      choice: Int32Array.from(this.#routes.flat()),
      madds: spent,
      correct: Uint8Array.from(correct),
      predicted: Int32Array.from(predicted),
      // What several gates expect to spend hangs on what they choose: there it is what they did spend.
      easyScore: Float32Array.from(net.gates.length > 1 ? spent.map((madds) => -madds) : this.#easy),
      candidates: [...candidates],
    };
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
  const { batch, routing, gateLambda, largest = false, onProgress } = options;
  const several = net.gates.length > 1;
  const drawn = several ? randomRoutes(net, options.routes ?? 0) : [];
  const numbered = Array.from({ length: net.widths }, (_, k) => k);
  const slots: Slot[] = largest ? [...numbered, "largest"] : numbered;
  const plan = new Plan(backend, net, span, { batch, slots, dynamic: routing !== undefined });
  const routed = routing && new Routed(plan, net, routing);
  const gate = gateLambda === undefined ? undefined : new Routed(plan, net, { by: "gate", lambda: gateLambda });
  try {
    const classes = net.spec.classes;
    const columns = new Map<Slot, Column>(slots.map((slot) => [slot, new Column()]));
    const drawnColumns = drawn.map(() => new Column());
    const blind = new Column();
    const blindRoutes: (readonly number[])[] = [];
    const labels: number[] = [];
    const indices: number[] = [];
    const read = (n: number) => backend.f32.subarray(plan.logits / 4, plan.logits / 4 + n * classes);
    for await (const { images, labels: truth, indices: which, size } of batches) {
      backend.f32.set(images, plan.input / 4);
      for (const slot of slots) {
        plan.run(size, slot);
        columns.get(slot)!.add(read(size), truth, classes);
      }
      for (const [i, route] of drawn.entries()) {
        plan.run(size, route);
        drawnColumns[i]!.add(read(size), truth, classes);
      }
      gate?.run(size, () => read(size), truth);
      if (routed !== undefined) {
        const taken = routed.run(size, () => read(size), truth);
        if (several) {
          const dealt = [...taken];
          new Philox(labels.length, "blind routes").shuffle(dealt);
          plan.runRoutes(dealt);
          blind.add(read(size), truth, classes);
          blindRoutes.push(...dealt);
        }
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
    if (routed !== undefined) {
      result.dynamic = {
        ...routed.predictions(),
        ...(several && {
          blind: {
            madds: Float64Array.from(blindRoutes, routeCosts(net, false)),
            correct: Uint8Array.from(blind.correct),
          },
        }),
      };
    }
    if (gate !== undefined) result.gate = gate.predictions();
    if (drawn.length > 0) {
      result.routes = drawn.map((route, i) => ({
        route,
        madds: madds(net, route),
        correct: Uint8Array.from(drawnColumns[i]!.correct),
      }));
    }
    return result;
  } finally {
    plan.dispose();
  }
}

/** The same routes for a network and a number. */
function randomRoutes(net: Supernet, count: number): number[][] {
  const random = new Philox(count, "random routes");
  return Array.from({ length: count }, () => net.gates.map(() => random.int(net.widths)));
}

/** MAdds of a route; each is counted once. */
export function routeCosts(net: Supernet, heads: boolean): (route: readonly number[]) => number {
  const known = new Map<string, number>();
  return (route) => {
    const key = route.join(" ");
    const cost = known.get(key) ?? madds(net, route, heads);
    known.set(key, cost);
    return cost;
  };
}

/**
 * For each row of scores: the probability that the slimmest is right where that is what they are; else minus the cost that they
 * expect, as a share of the widest candidate's.
 */
function easiness(scores: Float32Array, costs: readonly number[], act: Gate["act"]): number[] {
  const count = costs.length;
  if (act === "sigmoid") return Array.from({ length: scores.length / count }, (_, i) => scores[i * count]!);
  const widest = costs[count - 1]!;
  return Array.from({ length: scores.length / count }, (_, i) => {
    const row = scores.subarray(i * count, (i + 1) * count);
    const top = row.reduce((a, b) => Math.max(a, b));
    const weights = Array.from(row, (s) => Math.exp(s - top));
    const sum = weights.reduce((a, b) => a + b, 0);
    return -weights.reduce((cost, weight, k) => cost + (weight / sum) * (costs[k]! / widest), 0);
  });
}
