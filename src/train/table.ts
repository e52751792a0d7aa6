/** The network that a configuration asks for: the model's table, changed by the settings that touch it. */
import { UsageError } from "../errors.js";
import { modelSpec } from "../models/registry.js";
import { narrowModel } from "../models/slice.js";
import { checkSpec, gateCount, type ModelSpec, widthCount } from "../models/spec.js";
import type { TrainConfig } from "./config.js";

/** Throws UsageError where the settings make no network. */
export function tableOf(config: TrainConfig): { name: string; spec: ModelSpec } {
  const { model, width, norm, gate } = config;
  const { gate: _, ...table } = modelSpec(model);
  const spec: ModelSpec = {
    ...table,
    stages: gate.stage === null ? table.stages : moveGate(table, gate.stage, model),
    norm,
    attention: config.attention === "off" ? 0 : table.attention,
    candidates: gate.candidates,
    ...gateShape(gate),
  };
  if (width === null) return { name: model, spec };
  checkSpec(spec);
  if (width >= widthCount(spec)) {
    throw new UsageError(`width: expected 0 to ${widthCount(spec) - 1}, the widths of ${model}, got ${width}`);
  }
  return narrowModel(model, spec, width);
}

function moveGate(table: ModelSpec, to: number, model: string): ModelSpec["stages"] {
  const { stages } = table;
  if (gateCount(table) !== 1) {
    throw new UsageError(`gate.stage moves the only gate of a network; ${model} has ${gateCount(table)}`);
  }
  if (to >= stages.length) {
    throw new UsageError(`gate.stage: expected 0 to ${stages.length - 1}, the stages of ${model}, got ${to}`);
  }
  return stages.map(({ gates: _, ...stage }, i) => (i === to ? { ...stage, gates: [0] } : stage));
}

/** The paper's head, linear and without a bias, is what a table means that says nothing. */
function gateShape({ hidden, method }: TrainConfig["gate"]): Pick<ModelSpec, "gate"> {
  if (method === "probability") return { gate: { hidden, bias: true, act: "sigmoid" } };
  return hidden > 0 ? { gate: { hidden, bias: true } } : {};
}
