/** What a network answers for images, collected batch by batch: at a fixed width, or at those that it chooses. */
import { candidateCosts, madds } from "../cost/madds.js";
import type { Plan } from "../engine/plan.js";
import type { Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Gate } from "../nn/layers.js";
import type { Slot } from "../nn/width.js";
import { confidenceOf, softmax } from "../ops/softmax.js";
import type { DynamicPredictions } from "./predictions.js";
import { topClass } from "./top1.js";

/** Of every image: the top-1 class, whether it is right, and how confident it is. */
export class Column {
  readonly correct: number[] = [];
  readonly confidence: number[] = [];
  readonly predicted: number[] = [];

  /** Reads the logits of one batch, [image][class]. */
  add(logits: Float32Array, labels: Int32Array): void {
    const classes = logits.length / labels.length;
    for (let i = 0; i < labels.length; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      const best = topClass(row);
      this.predicted.push(best);
      this.correct.push(best === labels[i] ? 1 : 0);
      this.confidence.push(confidenceOf(row));
    }
  }
}

/** The candidates' columns, to fill. */
export function candidateColumns(net: Supernet): Map<Slot, Column> {
  return new Map(net.gates[0]!.candidates.map((k) => [k, new Column()]));
}

/** Runs the first images of the plan's input at every width that has a column. */
export function runWidths(plan: Plan, columns: ReadonlyMap<Slot, Column>, labels: Int32Array): void {
  for (const [slot, column] of columns) {
    plan.run(labels.length, slot);
    column.add(plan.readLogits(labels.length), labels);
  }
}

/** Every image at the width that `routing` chooses. */
export class Routed {
  readonly #plan: Plan;
  readonly #net: Supernet;
  readonly #routing: Routing;
  /** By candidate. */
  readonly #costs: readonly number[];
  readonly #column = new Column();
  readonly #routes: number[][] = [];
  readonly #easy: number[] = [];

  constructor(plan: Plan, net: Supernet, routing: Routing) {
    this.#plan = plan;
    this.#net = net;
    this.#routing = routing;
    this.#costs = candidateCosts(net, routing.by);
  }

  /** Runs the first images of the plan's input; returns the widths chosen, [image][gate]. */
  run(labels: Int32Array): number[][] {
    const n = labels.length;
    const [gate, ...others] = this.#net.gates;
    if (others.length === 0 && this.#routing.by === "gate") {
      this.#easy.push(...easiness(this.#plan.gateScores(n), this.#costs, gate!.act));
    }
    const taken = this.#plan.runRouted(n, this.#routing);
    this.#routes.push(...taken);
    this.#column.add(this.#plan.readLogits(n), labels);
    return taken;
  }

  /** `confidence`: the slimmest candidate's, of every image. */
  predictions(confidence: readonly number[]): DynamicPredictions & { predicted: Int32Array } {
    const net = this.#net;
    const { candidates } = net.gates[0]!;
    const cost =
      net.gates.length > 1 ? routeCosts(net, true) : ([k]: readonly number[]) => this.#costs[candidates.indexOf(k!)]!;
    const spent = Float64Array.from(this.#routes, cost);
    const { correct, predicted } = this.#column;
    return {
      routing: this.#routing,
      choice: Int32Array.from(this.#routes.flat()),
      madds: spent,
      correct: Uint8Array.from(correct),
      predicted: Int32Array.from(predicted),
      easyScore: Float32Array.from(this.#easyScore(spent, confidence)),
      candidates: [...candidates],
    };
  }

  /** What decides says how easy an image is: the slimmest's confidence, or the gate's scores. */
  #easyScore(spent: Float64Array, confidence: readonly number[]): ArrayLike<number> {
    if (this.#routing.by === "cascade") return confidence;
    // What several gates expect to spend hangs on what they choose: there it is what they did spend.
    return this.#net.gates.length > 1 ? spent.map((madds) => -madds) : this.#easy;
  }
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
    return -softmax(row).reduce((cost, share, k) => cost + share * (costs[k]! / widest), 0);
  });
}
