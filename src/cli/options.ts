/** Flags that several verbs have. */
import { existsSync } from "node:fs";
import { InvalidArgumentError, Option } from "commander";
import { UsageError } from "../errors.js";
import { modelPath, shippedModels } from "../io/model-file-node.js";
import { listModels } from "../models/registry.js";
import type { TrainConfig } from "../train/config.js";

export type Device = TrainConfig["device"];

/** What a verb says that it takes: a file, or one of the models that come with dsnet. */
export function modelHelp(): string {
  const names = shippedModels();
  return names.length === 0 ? "model file" : `model file, or one that comes with dsnet: ${names.join(", ")}`;
}

/** What a verb that takes both was given. UsageError: neither. */
export function kindOfModel(model: string): "in registry" | "file" {
  const registry = listModels();
  if (registry.includes(model)) return "in registry";
  if (existsSync(modelPath(model))) return "file";
  const names = [...shippedModels(), ...registry].join(", ");
  throw new UsageError(`expected a model file or one of ${names}; there is no file ${model}`);
}

/** Parser of a flag that takes a whole number. */
export function whole(min: number): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (Number.isSafeInteger(value) && value >= min) return value;
    throw new InvalidArgumentError(`Expected a whole number ≥ ${min}.`);
  };
}

/** One width of a network, or one for each gate in order. */
export type FixedWidth = number | "largest" | "smallest" | number[];

export function fixedWidth(text: string): FixedWidth {
  if (text === "largest" || text === "smallest") return text;
  if (/^\d{1,3}$/.test(text)) return Number(text);
  if (/^\d{1,3}(,\d{1,3})+$/.test(text)) return text.split(",").map(Number);
  throw new InvalidArgumentError("Expected a width's number, largest or smallest; or a number for each gate: 2,0,3.");
}

export const jsonOption = () => new Option("--json", "write JSON to stdout, progress to stderr");
export const deviceOption = () =>
  new Option("--device <name>", "backend that computes").choices(["auto", "native", "wasm"]).default("auto");
export const precisionOption = () =>
  new Option("--precision <name>", "what convolutions multiply in; bf16 needs AVX512-BF16")
    .choices(["fp32", "bf16"])
    .default("fp32");
export const threadsOption = () =>
  new Option("--threads <n>", "kernel threads; 0: as many as cores").argParser(whole(0)).default(0);
