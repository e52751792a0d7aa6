/** `calibrate`: measures a model's budget table on labelled images, and how long this device takes. */
import type { Backend } from "../backend/backend.js";
import { madds } from "../cost/madds.js";
import { deviceLatency } from "../engine/latency.js";
import { Plan } from "../engine/plan.js";
import { UsageError } from "../errors.js";
import { measureCalibration } from "../evaluate/calibrate.js";
import { writeFileAtomic } from "../io/files-node.js";
import { type CalibrationPoint, encodeModel } from "../io/model-file.js";
import { modelPath } from "../io/model-file-node.js";
import type { Supernet } from "../models/build.js";
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
  /** Of each width that the gate chooses among, where there is one gate: MAdds and, on this device, milliseconds of one image, the gate included. */
  candidates: { width: number; madds: number; ms: number }[];
}

/**
 * Writes λ → mean MAdds, accuracy and routes into the model file, and measures this device's latency anew, which budgets in
 * milliseconds use from then on. Calibrate on images that neither weights nor gate were fitted to.
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
    const candidates = net.gates.length === 1 ? timed(backend, net, span) : [];
    const { table, images } = await measureCalibration(backend, net, span, loader.inOrder(), {
      batch: loader.batchSize,
      onProgress: (images) => options.onProgress?.(images, loader.dataset.length),
    });
    await writeFileAtomic(output, encodeModel({ ...file, calibration: table }));
    return { model: output, images, table, candidates };
  });
}

/** The one gate's candidates on this device. */
function timed(backend: Backend, net: Supernet, span: number): CalibrateResult["candidates"] {
  const { candidates } = net.gates[0]!;
  const plan = new Plan(backend, net, span, { batch: 1, slots: candidates });
  const latency = deviceLatency(backend, net, plan, true);
  plan.dispose();
  return candidates.map((width, k) => ({ width, madds: madds(net, width, true), ms: latency[k]! }));
}
