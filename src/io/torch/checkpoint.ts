/**
 * Checkpoints of PyTorch training scripts: a dictionary with `state_dict`, perhaps `state_dict_ema` (the averaged weights)
 * and much that is not needed, or a state dict alone. From torch.save, or as safetensors with the same names.
 */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import { looksLikeSafetensors, readSafetensors, type StoredTensor } from "../safetensors.js";
import { readTorch, type TorchFile, type TorchOptions } from "./load.js";
import { Tensor } from "./tensor.js";
import { Dict, Inert, kindOf } from "./values.js";

export interface CheckpointOptions extends TorchOptions {
  /** Take the averaged weights, `state_dict_ema`. */
  ema?: boolean;
}

export interface Checkpoint {
  format: TorchFile["format"] | "safetensors";
  /** Entry that the weights are from; null: the file holds nothing else. */
  entry: string | null;
  /** Under the network's names: a leading `module.` is taken off. Views of the file where they are dense in it. */
  weights: Map<string, StoredTensor>;
  /** Numbers and texts beside the weights (`epoch`, `arch`), and those among the script's arguments (`args.lr`). */
  facts: Map<string, string | number | boolean>;
  /** Entries that were not used. */
  ignored: string[];
  /** Globals in the pickle that were left unresolved, as `module.name`. */
  inert: string[];
}

const PLAIN = "state_dict";
const AVERAGED = "state_dict_ema";
/** What data-parallel training puts before each name. */
const PREFIX = "module.";

/** Reads a checkpoint. FormatError where it is malformed, or lacks the weights asked for. */
export function readCheckpoint(bytes: Uint8Array, options: CheckpointOptions = {}): Checkpoint {
  const { ema = false } = options;
  if (looksLikeSafetensors(bytes)) return fromSafetensors(bytes, ema);
  const { format, value, inert } = readTorch(bytes, options);
  if (!(value instanceof Dict))
    throw new FormatError(`Expected a dictionary of weights, the file holds ${kindOf(value)}.`);
  const entry = chooseEntry([...value.entries.keys()], ema);
  const state = entry === null ? value : value.entries.get(entry);
  if (!(state instanceof Dict)) throw new FormatError(`Expected ${entry} to be a dictionary, it is ${kindOf(state)}.`);
  return {
    format,
    entry,
    weights: readWeights(state, bytes.length),
    ...(entry === null ? { facts: new Map(), ignored: [] } : describeOthers(value, entry)),
    inert,
  };
}

function chooseEntry(keys: readonly unknown[], ema: boolean): string | null {
  const entry = ema ? AVERAGED : PLAIN;
  if (keys.includes(entry)) return entry;
  if (!ema && !keys.includes(AVERAGED)) return null;
  const names = keys.slice(0, 10).map((key) => (typeof key === "string" ? quote(key) : kindOf(key)));
  throw new FormatError(
    `The file has no ${ema ? "averaged weights" : "plain weights"} (${entry}). It has: ${names.join(", ")}${keys.length > 10 ? ` and ${keys.length - 10} more` : ""}.`,
  );
}

function readWeights(state: Dict, fileBytes: number): Map<string, StoredTensor> {
  const weights = new Map<string, StoredTensor>();
  let copied = 0;
  let total = 0;
  for (const [key, tensor] of state.entries) {
    if (typeof key !== "string")
      throw new FormatError(`Expected the weights' names to be text, one is ${kindOf(key)}.`);
    if (!(tensor instanceof Tensor)) {
      throw new FormatError(`Expected only tensors among the weights, ${quote(key)} is ${kindOf(tensor)}.`);
    }
    const stored = tensor.stored();
    total += stored.data.length;
    if (!tensor.contiguous) copied += stored.data.length;
    // The bytes of some names may be the same, of tied weights; not of so many that reading them takes far more than the file.
    if (copied > fileBytes || total > 2 * fileBytes)
      throw new FormatError("The tensors are views that overlap: dense, they are larger than the file.");
    addWeight(weights, key, stored);
  }
  return weights;
}

function addWeight(weights: Map<string, StoredTensor>, key: string, tensor: StoredTensor): void {
  const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
  if (weights.has(name))
    throw new FormatError(`The weights hold ${quote(name)} with and without "${PREFIX}" before it.`);
  weights.set(name, tensor);
}

function describeOthers(file: Dict, entry: string): Pick<Checkpoint, "facts" | "ignored"> {
  const facts: Checkpoint["facts"] = new Map();
  const ignored: string[] = [];
  for (const [key, value] of file.entries) {
    if (key === entry) continue;
    if (typeof key === "string" && isFact(value)) facts.set(key, value);
    else ignored.push(typeof key === "string" ? key : kindOf(key));
    if (!(key === "args" && value instanceof Inert && value.state instanceof Dict)) continue;
    for (const [name, setting] of value.state.entries) {
      if (typeof name === "string" && isFact(setting)) facts.set(`args.${name}`, setting);
    }
  }
  return { facts, ignored };
}

function isFact(value: unknown): value is string | number | boolean {
  return ["string", "number", "boolean"].includes(typeof value);
}

function fromSafetensors(bytes: Uint8Array, ema: boolean): Checkpoint {
  const { metadata, tensors } = readSafetensors(bytes);
  if (metadata.get("format") === "dsnet") {
    throw new FormatError("The file is a model of dsnet already: use it as it is.");
  }
  const groups = new Set([...tensors.keys()].map((name) => name.split(".")[0]!));
  const entry = chooseEntry([...groups], ema);
  const weights = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    if (entry === null) addWeight(weights, name, tensor);
    else if (name.startsWith(`${entry}.`)) addWeight(weights, name.slice(entry.length + 1), tensor);
  }
  const ignored = entry === null ? [] : [...groups].filter((group) => group !== entry);
  return { format: "safetensors", entry, weights, facts: new Map(), ignored, inert: [] };
}
