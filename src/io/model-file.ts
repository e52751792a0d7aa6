/**
 * The model file: a safetensors file whose metadata says which network its tensors are, for which classes and which
 * preprocessing. docs/FORMAT.md describes it. Nothing here knows what a width or a gate does with it.
 */
import { FormatError, UsageError } from "../errors.js";
import { anything, type Check, check, list, number, object, oneOf, optional, string, such, whole } from "./check.js";
import { quote } from "./json-scanner.js";
import { naming } from "./place.js";
import { looksLikeSafetensors, readSafetensors, type StoredTensor, writeSafetensors } from "./safetensors.js";

/** The newest version this code writes and reads. */
const FORMAT_VERSION = 1;

/** What some way to choose widths costs and achieves. */
export interface Outcome {
  /** Mean multiply-adds of one image. */
  madds: number;
  /** Share of right answers, 0..1. */
  accuracy: number;
  /** Share of the images that took each candidate; absent from files of earlier versions. */
  shares?: number[];
}

/** The gate chooses, and the cost weighs `lambda` against its score. */
export interface CalibrationPoint extends Outcome {
  lambda: number;
}

/**
 * The slimmest candidate answers; an image whose confidence, the highest probability, is below `threshold` goes on at the width
 * `wider` from where the gate stands. At 0 none does.
 */
export interface CascadePoint extends Outcome {
  wider: number;
  threshold: number;
}

/** What a cascade is. */
export type Cascade = Pick<CascadePoint, "wider" | "threshold">;

/** How widths are chosen. */
export type Routing = ({ by: "gate" } & Pick<CalibrationPoint, "lambda">) | ({ by: "cascade" } & Cascade);

export interface TrainingState {
  stage: string;
  /** Epochs of this stage that are complete. */
  epoch: number;
  /** Optimiser steps of this stage that are complete. */
  step: number;
  [more: string]: unknown;
}

export interface StoredPreprocessing {
  /** Pixels of the network's input. */
  height: number;
  width: number;
  channels: number;
  /** Per channel, of pixels scaled to 0..1. */
  mean: number[];
  std: number[];
  interpolation: "bilinear" | "bicubic";
  /** The centre crop's share of the resized image's side. */
  cropPct: number;
}

export interface ModelFile {
  /** Registry name, and the specification from which the network is built. */
  model: { name: string; spec: unknown };
  /** Label of each class, in the order of the logits. */
  classes: string[];
  /** Structurally image/preprocess.ts's `Preprocessing`. */
  preprocessing: StoredPreprocessing;
  /** Width indices among which the gate chooses, ascending; none while there is no trained gate. */
  candidates: number[];
  /** Widths whose norm statistics were measured on the final weights; the others must not be run. */
  calibrated?: (number | "largest")[];
  /** How widths are chosen where no budget is set; absent: by the gate at λ = 0. */
  routing?: Routing;
  /** The gate's budgets: what each λ costs and achieves, λ ascending. */
  calibration?: CalibrationPoint[];
  /** The cascade's: the cascades to choose by cost, descending. */
  cascades?: CascadePoint[];
  /** Where training stood, in the checkpoint of a run; whatever else the trainer needs to go on rides along. */
  training?: TrainingState;
  /** Figures measured with these weights. */
  results?: unknown;
  /** Kernel build (target and instruction set) whose bits these are. */
  kernelBuild?: string;
  /**
   * F32, F16 or BF16. Parameters and statistics under the names of the published checkpoints, convolution weights OIHW. The
   * checkpoint of a run also has `optimizer.<name>` (momentum) and `ema.<name>` (teacher).
   */
  tensors: Map<string, StoredTensor>;
}

const preprocessing = object({
  height: whole(1),
  width: whole(1),
  channels: whole(1),
  mean: list(number),
  std: list(such(number, "a number above 0", (x) => x > 0)),
  interpolation: oneOf("bilinear", "bicubic"),
  cropPct: such(number, "a share above 0, up to 1", (x) => x > 0 && x <= 1),
});

const share = such(number, "a share from 0 to 1", (x) => x >= 0 && x <= 1);

const outcome = {
  madds: such(number, "a number ≥ 0", (x) => x >= 0),
  accuracy: share,
  shares: optional(list(share)),
};
const gateKnob = { lambda: number };
const cascadeKnob = { wider: whole(0), threshold: such(number, "a probability", (x) => x >= 0 && x <= 1.0001) };

const by = <T extends Routing["by"]>(name: T) => check("gate or cascade", (x): x is T => x === name);

const routing: Check<Routing> = (value, path) => {
  const { by: kind } = object({ by: string }, { open: true })(value, path);
  if (kind === "gate") return object({ by: by("gate"), ...gateKnob })(value, path);
  return object({ by: by("cascade"), ...cascadeKnob })(value, path);
};

/** Metadata key → what its JSON must be, for each field of ModelFile that is stored as JSON. */
const REQUIRED = {
  model: object({ name: such(string, "a name", (name) => name !== ""), spec: anything }),
  classes: list(string),
  preprocessing: such(preprocessing, "one mean and std per channel", ({ mean, std, channels }) =>
    [mean, std].every((values) => values.length === channels),
  ),
  candidates: such(list(whole(0)), "ascending width indices", (widths) =>
    widths.every((width, i) => i === 0 || width > widths[i - 1]!),
  ),
};
const some = <T>(items: Check<T[]>) => such(items, "at least one point", (x) => x.length > 0);

const OPTIONAL = {
  calibrated: list(
    check(
      "a width index or largest",
      (x): x is number | "largest" => x === "largest" || (Number.isInteger(x) && (x as number) >= 0),
    ),
  ),
  routing,
  calibration: some(list(object({ ...gateKnob, ...outcome }))),
  cascades: some(list(object({ ...cascadeKnob, ...outcome }))),
  training: object({ stage: string, epoch: whole(0), step: whole(0) }, { open: true }),
  results: anything,
};

/** The bytes of a model file; the tensors are copied. FormatError when `decodeModel` would not read it back. */
export function encodeModel(file: ModelFile): Uint8Array<ArrayBuffer> {
  const metadata = new Map<string, string>([
    ["format", "dsnet"],
    ["format_version", String(FORMAT_VERSION)],
  ]);
  for (const key of [...keys(REQUIRED), ...keys(OPTIONAL)]) {
    if (file[key] !== undefined) metadata.set(key, toJson(key, file[key]));
  }
  if (file.kernelBuild !== undefined) metadata.set("kernel_build", file.kernelBuild);
  decodeContent(metadata, file.tensors);
  return writeSafetensors(file.tensors, metadata);
}

/**
 * Reads a model file; the tensors are views of `bytes`. Every field is checked, the tensors' names and shapes are not:
 * that takes the network (see `checkTensors`). Errors name `place`, where the bytes come from.
 */
export function decodeModel(bytes: Uint8Array, place?: string): ModelFile {
  return place === undefined ? decode(bytes) : naming(place, () => decode(bytes));
}

/** Whether the bytes are a model of dsnet; if not, they may be a checkpoint (torch/checkpoint.ts). */
export function isModel(bytes: Uint8Array): boolean {
  return looksLikeSafetensors(bytes) && readSafetensors(bytes).metadata.get("format") === "dsnet";
}

function decode(bytes: Uint8Array): ModelFile {
  const zipOrPickle = (bytes[0] === 0x50 && bytes[1] === 0x4b) || bytes[0] === 0x80;
  if (zipOrPickle && !looksLikeSafetensors(bytes)) {
    throw new FormatError('It begins like a PyTorch checkpoint: convert it with "dsnet import".');
  }
  const { metadata, tensors } = readSafetensors(bytes);
  if (metadata.get("format") !== "dsnet") {
    throw new FormatError(
      'A safetensors file, but not a model of dsnet: its metadata lacks format = "dsnet". Published checkpoints are converted with "dsnet import".',
    );
  }
  const version = metadata.get("format_version");
  if (version === undefined || !/^[1-9]\d*$/.test(version)) {
    throw new FormatError(`Expected format_version to be a positive integer, got ${quote(String(version))}.`);
  }
  if (Number(version) > FORMAT_VERSION) {
    throw new FormatError(
      `The file has format version ${version}, this dsnet reads up to ${FORMAT_VERSION}: update dsnet to read it.`,
    );
  }
  return decodeContent(metadata, tensors);
}

function decodeContent(metadata: Map<string, string>, tensors: Map<string, StoredTensor>): ModelFile {
  for (const key of keys(REQUIRED)) {
    if (!metadata.has(key)) throw new FormatError(`The model file's metadata lacks "${key}".`);
  }
  for (const [name, { dtype }] of tensors) {
    if (!["F32", "F16", "BF16"].includes(dtype)) {
      throw new FormatError(`Expected all tensors as F32, F16 or BF16, ${quote(name)} is ${dtype}.`);
    }
  }
  const file: ModelFile = {
    model: parse("model", REQUIRED.model, metadata),
    classes: parse("classes", REQUIRED.classes, metadata),
    preprocessing: parse("preprocessing", REQUIRED.preprocessing, metadata),
    candidates: parse("candidates", REQUIRED.candidates, metadata),
    tensors,
  };
  if (metadata.has("calibrated")) file.calibrated = parse("calibrated", OPTIONAL.calibrated, metadata);
  if (metadata.has("routing")) file.routing = parse("routing", OPTIONAL.routing, metadata);
  if (metadata.has("calibration")) file.calibration = parse("calibration", OPTIONAL.calibration, metadata);
  if (metadata.has("cascades")) file.cascades = parse("cascades", OPTIONAL.cascades, metadata);
  if (metadata.has("training")) file.training = parse("training", OPTIONAL.training, metadata);
  if (metadata.has("results")) file.results = parse("results", OPTIONAL.results, metadata);
  if (metadata.has("kernel_build")) file.kernelBuild = metadata.get("kernel_build")!;
  return file;
}

function parse<T>(key: string, check: Check<T>, metadata: Map<string, string>): T {
  let value: unknown;
  try {
    value = JSON.parse(metadata.get(key)!);
  } catch (cause) {
    throw new FormatError(`The model file's "${key}" is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  return check(value, key);
}

/** JSON that reads back as the same value: JSON.stringify would turn NaN and infinities into null. */
function toJson(key: string, value: unknown): string {
  return JSON.stringify(value, (name, part) => {
    if (typeof part === "number" && !Number.isFinite(part)) {
      throw new UsageError(
        `A model file cannot store ${part}, found in "${key}" at ${quote(name)}: JSON has no such number.`,
      );
    }
    return part;
  });
}

function keys<T extends object>(object: T): (keyof T)[] {
  return Object.keys(object) as (keyof T)[];
}

/** How a model chooses widths where no budget is set. */
export function routingOf({ routing }: Pick<ModelFile, "routing">): Routing {
  return routing ?? { by: "gate", lambda: 0 };
}

/** Kinds of tensors in a model file, by the prefix of their names. */
const PREFIXES = { parameters: "", optimizer: "optimizer.", ema: "ema." };

/** The tensors of one kind, under their parameters' names. */
export function selectTensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  kind: keyof typeof PREFIXES,
): Map<string, StoredTensor> {
  const selected = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    const prefix = [PREFIXES.optimizer, PREFIXES.ema].find((p) => name.startsWith(p)) ?? "";
    if (prefix === PREFIXES[kind]) selected.set(name.slice(prefix.length), tensor);
  }
  return selected;
}

/**
 * Throws one FormatError that names every tensor missing, superfluous or of another shape than `expected` says.
 * At most 10 of each kind are named.
 */
export function checkTensors(
  expected: ReadonlyMap<string, readonly number[]>,
  got: ReadonlyMap<string, { readonly shape: readonly number[] }>,
): void {
  const missing = [...expected.keys()].filter((name) => !got.has(name));
  const extra = [...got.keys()].filter((name) => !expected.has(name));
  const misshapen: string[] = [];
  for (const [name, shape] of expected) {
    const found = got.get(name)?.shape;
    if (found && String(found) !== String(shape)) misshapen.push(`${name} (expected [${shape}], got [${found}])`);
  }
  const problems = [
    ...listed("missing", missing),
    ...listed("not part of the model", extra),
    ...listed("of another shape", misshapen),
  ];
  if (problems.length === 0) return;
  throw new FormatError(`The file's tensors do not fit the model.\n${problems.join("\n")}`);
}

function listed(kind: string, items: string[]): string[] {
  if (items.length === 0) return [];
  const more = items.length > 10 ? ` and ${items.length - 10} more` : "";
  return [`  ${items.length} ${kind}: ${items.slice(0, 10).join(", ")}${more}`];
}
