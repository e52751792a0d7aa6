/** Runs a network over images and keeps what the honest table needs. */
import type { Backend } from "../backend/backend.js";
import { madds } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import type { Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Slot } from "../nn/width.js";
import { Philox } from "../random/philox.js";
import { Column, Routed, routeCosts, runWidths } from "./answers.js";
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
    const columns = new Map<Slot, Column>(slots.map((slot) => [slot, new Column()]));
    const drawnColumns = drawn.map(() => new Column());
    const blind = new Column();
    const blindRoutes: (readonly number[])[] = [];
    const labels: number[] = [];
    const indices: number[] = [];
    for await (const { images, labels: truth, indices: which, size } of batches) {
      backend.f32.set(images, plan.input / 4);
      runWidths(plan, columns, truth);
      for (const [i, route] of drawn.entries()) {
        plan.run(size, route);
        drawnColumns[i]!.add(plan.readLogits(size), truth);
      }
      gate?.run(truth);
      if (routed !== undefined) {
        const taken = routed.run(truth);
        if (several) {
          const dealt = [...taken];
          new Philox(labels.length, "blind routes").shuffle(dealt);
          plan.runRoutes(dealt);
          blind.add(plan.readLogits(size), truth);
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
    const { confidence } = columns.get(net.gates[0]?.candidates[0] ?? 0)!;
    if (routed !== undefined) {
      result.dynamic = {
        ...routed.predictions(confidence),
        ...(several && {
          blind: {
            madds: Float64Array.from(blindRoutes, routeCosts(net, false)),
            correct: Uint8Array.from(blind.correct),
          },
        }),
      };
    }
    if (gate !== undefined) result.gate = gate.predictions(confidence);
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
