/** `calibrate`: measures a model's budget table on labelled images, and how long this device takes. */
import type { Backend } from "../backend/backend.js";
import { candidateCosts } from "../cost/madds.js";
import { deviceLatency } from "../engine/latency.js";
import { Plan } from "../engine/plan.js";
import { UsageError } from "../errors.js";
import { measureCalibration, otherRouting } from "../evaluate/calibrate.js";
import { writeFileAtomic } from "../io/files-node.js";
import { type CalibrationPoint, type CascadePoint, encodeModel, type Routing, routingOf } from "../io/model-file.js";
import { modelPath } from "../io/model-file-node.js";
import type { Supernet } from "../models/build.js";
import { type LabelledOptions, withLabelled } from "./labelled-node.js";

export interface CalibrateOptions extends LabelledOptions {
  /** Model file to write. Default: in place. */
  output?: string;
  /** How the model is to choose from now on. Default: as it does. */
  routing?: Routing["by"];
}

export interface CalibrateResult {
  /** Path of the file written. */
  model: string;
  images: number;
  /** How the model chooses where no budget is set. */
  routing: Routing;
  /** The table of that way to choose, cost descending. */
  table: (CalibrationPoint | CascadePoint)[];
  /**
   * Of each width that is chosen from, where there is one gate: MAdds and, on this device, milliseconds of one image, all that the choice takes
   * included.
   */
  candidates: { width: number; madds: number; ms: number }[];
}

/**
 * Writes both tables (what each λ of the gate, and each cascade, costs and achieves) into the model file, and measures this device's
 * latency anew, which budgets in milliseconds use from then on. Where no budget is set, the model chooses as it did, or with `routing`
 * the other way at the same cost, and what was measured of the former is dropped. Calibrate on images that neither weights nor gate were fitted to.
 */
export async function calibrate(model: string, options: CalibrateOptions): Promise<CalibrateResult> {
  const { output = model } = options;
  if (output === model && modelPath(model) !== model) {
    throw new UsageError(`output: expected a file to write, ${model} comes with dsnet and is left as it is`);
  }
  return withLabelled(model, options, async ({ file, net, backend, span, loader }) => {
    if (file.candidates.length === 0) {
      throw new UsageError(`${model}: expected a model with a trained gate, there is nothing to calibrate`);
    }
    const own = routingOf(file);
    const by = options.routing ?? own.by;
    if (by === "cascade" && net.gates.length !== 1) {
      throw new UsageError(`routing: a cascade needs a model with one gate, ${model} has ${net.gates.length}`);
    }
    const candidates = net.gates.length === 1 ? timed(backend, net, span, by) : [];
    const { calibration, cascades, images } = await measureCalibration(backend, net, span, loader.inOrder(), {
      batch: loader.batchSize,
      routing: own,
      onProgress: (images) => options.onProgress?.(images, loader.dataset.length),
    });
    const tables = { calibration, cascades };
    const routing = by === own.by ? own : otherRouting(tables, own)!; // its own point is in its table
    await writeFileAtomic(
      output,
      encodeModel({ ...file, ...tables, ...(by !== own.by && { routing, results: undefined }) }),
    );
    const table = by === "gate" ? calibration : cascades;
    return { model: output, images, routing, table, candidates };
  });
}

/** The one gate's candidates on this device. */
function timed(backend: Backend, net: Supernet, span: number, by: Routing["by"]): CalibrateResult["candidates"] {
  const { candidates } = net.gates[0]!;
  const plan = new Plan(backend, net, span, { batch: 1, slots: candidates });
  const latency = deviceLatency(backend, net, plan, by, { fresh: true });
  plan.dispose();
  const costs = candidateCosts(net, by);
  return candidates.map((width, k) => ({ width, madds: costs[k]!, ms: latency[k]! }));
}
