/** `calibrate`: measures a model's budget table on labelled images, and how long this device takes. */
import { madds } from "../cost/madds.js";
import { deviceLatency } from "../engine/latency.js";
import { Plan } from "../engine/plan.js";
import { UsageError } from "../errors.js";
import { calibrationTable, gateOutcomes } from "../evaluate/calibrate.js";
import { writeFileAtomic } from "../io/files-node.js";
import { type CalibrationPoint, encodeModel } from "../io/model-file.js";
import { type LabelledOptions, withLabelled } from "./labelled-node.js";

export interface CalibrateOptions extends LabelledOptions {
  /** Model file to write. Default: in place. */
  output?: string;
}

export interface CalibrateResult {
  /** Path of the file written. */
  model: string;
  images: number;
  /** λ ascending. */
  table: CalibrationPoint[];
  /** Of each width that the gate chooses among: MAdds and, on this device, milliseconds of one image, the gate included. */
  candidates: { width: number; madds: number; ms: number }[];
}

/**
 * Writes λ → mean MAdds, accuracy and routes into the model file, and measures this device's latency anew, which budgets in
 * milliseconds use from then on. Calibrate on images that neither weights nor gate were fitted to.
 */
export async function calibrate(model: string, options: CalibrateOptions): Promise<CalibrateResult> {
  const { output = model } = options;
  return withLabelled(model, options, async ({ file, net, backend, span, loader }) => {
    if (file.candidates.length === 0 || net.gates.length !== 1) {
      throw new UsageError(`${model}: expected a model with one trained gate, there is nothing to calibrate`);
    }
    const { candidates } = net.gates[0]!;
    const costs = candidates.map((k) => madds(net, k, true));
    const plan = new Plan(backend, net, span, { batch: 1, slots: candidates });
    const latency = deviceLatency(backend, net, plan, true);
    plan.dispose();
    const outcomes = await gateOutcomes(backend, net, span, loader.inOrder(), {
      batch: loader.batchSize,
      onProgress: (images) => options.onProgress?.(images, loader.dataset.length),
    });
    const table = calibrationTable(outcomes, costs);
    await writeFileAtomic(output, encodeModel({ ...file, calibration: table }));
    return {
      model: output,
      images: outcomes.images,
      table,
      candidates: candidates.map((width, k) => ({ width, madds: costs[k]!, ms: latency[k]! })),
    };
  });
}
