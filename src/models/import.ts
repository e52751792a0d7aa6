/** Published weights → model file: finds the network they belong to, and which of its widths were measured. */
import { FormatError, UsageError } from "../errors.js";
import { asFloat32, float32Tensor } from "../io/float32.js";
import { quote } from "../io/json-scanner.js";
import type { ModelFile } from "../io/model-file.js";
import type { StoredTensor } from "../io/safetensors.js";
import { type Checkpoint, type CheckpointOptions, readCheckpoint } from "../io/torch/checkpoint.js";
import type { Param } from "../nn/parameters.js";
import type { Slot } from "../nn/width.js";
import { build, paramsAlong, type Supernet, slotsOf } from "./build.js";
import { listModels, modelSpec } from "./registry.js";
import type { ModelSpec } from "./spec.js";
import { checkParameters } from "./state.js";

export interface NetworkOptions {
  /** Name in the registry. Default: the model whose tensors fit. With `spec`: the name to store. */
  model?: string;
  /** Table of a network that is not in the registry. Where its `candidates` is null, the gate's rows say how many there are. */
  spec?: ModelSpec;
  /** Labels in the order of the logits. Default: "0", "1", ... */
  classes?: readonly string[];
}

export type ImportOptions = CheckpointOptions & NetworkOptions;

/** What the published networks were trained and evaluated with: ImageNet's statistics, timm's resize and crop. */
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];
const CROP_PCT = 0.875;
/** The same for grey images: the mean over the colours. */
const GREY = { mean: [0.449], std: [0.226] };

/** Counters that PyTorch's norms keep and nothing here reads. */
const COUNTER = /(^|\.)num_batches_tracked$/;

/**
 * The bytes of a checkpoint (torch.save in either format, or safetensors) as a model file. Nothing in it is run. FormatError
 * where the file is malformed or its tensors are not exactly the network's; UsageError where the options do not fit it.
 */
export function importCheckpoint(bytes: Uint8Array, options: ImportOptions = {}): ModelFile {
  return toModelFile(readCheckpoint(bytes, options), options);
}

/** A checkpoint's weights as a model file. Memory: views of the checkpoint, except what is not F32 in it. */
export function toModelFile({ weights }: Checkpoint, options: NetworkOptions = {}): ModelFile {
  const tensors = networkTensors(weights);
  const { name, net } = findNetwork(tensors, options);
  const { spec } = net;
  try {
    checkParameters(net, tensors);
  } catch (cause) {
    throw new FormatError(`As ${name}: ${(cause as Error).message}`, { cause });
  }
  const classes = options.classes ?? Array.from({ length: spec.classes }, (_, i) => String(i));
  if (classes.length !== spec.classes) {
    throw new UsageError(`labels: expected ${spec.classes}, one for each class of the model, got ${classes.length}`);
  }
  const { height, width, channels } = spec.input;
  return {
    model: { name, spec },
    classes: [...classes],
    preprocessing: {
      ...{ height, width, channels },
      ...(channels === 1 ? GREY : { mean: MEAN, std: STD }),
      interpolation: "bicubic",
      cropPct: CROP_PCT,
    },
    candidates: [...(net.gates[0]?.candidates ?? [])],
    calibrated: measuredSlots(net, tensors),
    tensors,
  };
}

type Tensors = ReadonlyMap<string, StoredTensor>;

/** What of a state dict is the network's: no counters, all F32. */
export function networkTensors(weights: Tensors): Map<string, StoredTensor> {
  return new Map(
    [...weights].filter(([name]) => !COUNTER.test(name)).map(([name, tensor]) => [name, toFloat32(name, tensor)]),
  );
}

function findNetwork(tensors: Tensors, { model, spec }: NetworkOptions): { name: string; net: Supernet } {
  if (spec !== undefined) return { name: model ?? "custom", net: adapted(spec, spec.classes, tensors) };
  const names = model === undefined ? listModels() : [model];
  const fits = names.map((name) => {
    const table = modelSpec(name);
    const net = adapted(table, tensors.get("classifier.weight")?.shape[0] || table.classes, tensors);
    const fitting = net.layout.params.filter((p) => String(p.fileShape) === String(tensors.get(p.name)?.shape));
    return { name, net, share: fitting.length / net.layout.params.length };
  });
  const best = fits.reduce((a, b) => (b.share > a.share ? b : a));
  // Another network altogether: a list of every tensor that differs would help nobody.
  if (best.share < 0.5 && model === undefined) {
    throw new FormatError(
      `The file's ${tensors.size} tensors fit no model of the registry (${names.join(", ")}). Name the model, or give its table with --spec.`,
    );
  }
  return best;
}

/**
 * The network of a table with as many classes and, where the table leaves it open, candidates as the file has: the
 * published gates choose among the first widths, four of them whatever the number of widths.
 */
function adapted(table: ModelSpec, classes: number, tensors: Tensors): Supernet {
  const net = build({ ...table, classes });
  const rows = tensors.get(net.gates[0]?.head.weight.name ?? "")?.shape[0] ?? 0;
  if (table.candidates !== null || rows < 1 || rows > net.widths) return net;
  return build({ ...table, classes, candidates: Array.from({ length: rows }, (_, k) => k) });
}

function toFloat32(name: string, tensor: StoredTensor): StoredTensor {
  if (tensor.dtype === "F32") return tensor;
  if (!["F16", "BF16", "F64"].includes(tensor.dtype)) {
    throw new FormatError(`Expected ${quote(name)} to hold floating-point numbers, it is ${tensor.dtype}.`);
  }
  return float32Tensor(tensor.shape, asFloat32(tensor));
}

/** The widths on whose way no norm still has its initial statistics, mean 0 and variance 1. */
function measuredSlots(net: Supernet, tensors: Tensors): Slot[] {
  const all = (name: string, value: number) => asFloat32(tensors.get(name)!).every((x) => x === value);
  const untouched = new Set<Param>();
  for (const { stats } of net.norms) {
    for (const { mean, var: variance } of stats) if (all(mean.name, 0) && all(variance.name, 1)) untouched.add(mean);
  }
  return slotsOf(net).filter((slot) => paramsAlong(net, slot).every((param) => !untouched.has(param)));
}
