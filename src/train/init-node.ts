/** `init`: a run's first weights from a file. One of our models of the same table, or a plain network that is one of its widths. */
import { isDeepStrictEqual } from "node:util";
import type { Backend } from "../backend/backend.js";
import { FormatError, UsageError } from "../errors.js";
import { decodeModel, isModel, type ModelFile, selectTensors } from "../io/model-file.js";
import { readModelBytes } from "../io/model-file-node.js";
import { naming } from "../io/place.js";
import type { StoredTensor } from "../io/safetensors.js";
import { readCheckpoint } from "../io/torch/checkpoint.js";
import { type Supernet, slotsOf } from "../models/build.js";
import { networkOf } from "../models/file.js";
import { networkTensors } from "../models/import.js";
import { findPlain, inherit, inheritPlain, type Taken } from "../models/inherit.js";
import { narrowSpec } from "../models/slice.js";
import type { ModelSpec, StageSpec, StemSpec } from "../models/spec.js";
import { checkParameters } from "../models/state.js";
import type { Slot } from "../nn/width.js";

export interface Init {
  /** What the weights were made for; null where the file does not say. */
  readonly preprocessing: ModelFile["preprocessing"] | null;
  /** What is taken and what is not, in words. */
  readonly facts: readonly string[];
  /** Writes the weights over a random start. */
  fill(backend: Backend, span: number): void;
}

/** The network to start, its name, and the labels that it is to tell apart. */
interface Target {
  net: Supernet;
  model: string;
  classes: readonly string[];
  /** Whether stage II goes on with a gate's weights. On cached features, which are scaled as no file has them, it begins anew. */
  gate: boolean;
}

/**
 * Reads and judges a file: a model file, or a checkpoint as `dsnet import` reads them. Throws UsageError (no such file, a network
 * of another table), FormatError (neither, broken, or its tensors fit no width; it names them), StorageError.
 */
export async function openInit(path: string, target: Target): Promise<Init> {
  const bytes = await readModelBytes(path);
  return naming(path, () => {
    if (isModel(bytes)) return fromModel(path, decodeModel(bytes), target);
    const { weights } = naming("neither a model of dsnet nor a checkpoint", () => readCheckpoint(bytes));
    const tensors = networkTensors(weights);
    if ([...tensors.keys()].some((name) => name.includes(".aux_bn.1."))) {
      throw new FormatError(`Norms of several widths: a supernet's checkpoint. Convert it first, by "dsnet import".`);
    }
    const { net } = target;
    const { classes } = net.spec;
    // It has no labels: that as many logits stand for the same classes can only be said.
    const classifier = tensors.get("classifier.weight")?.shape[0] === classes;
    const { facts, fill } = fromPlain(path, tensors, slotsOf(net), net, classifier);
    const assumed = classifier ? [`its classifier: ${classes} logits, taken for the classes in their order`] : [];
    return { preprocessing: null, facts: [...facts, ...assumed], fill };
  });
}

function fromModel(path: string, file: ModelFile, { net, model, classes, gate }: Target): Init {
  const source = networkOf(file);
  const tensors = selectTensors(file.tensors, "parameters");
  checkParameters(source, tensors);
  const classifier = isDeepStrictEqual(file.classes, classes);
  const { preprocessing } = file;
  const other = differences(net.spec, source.spec);
  if (other.length === 0) return { preprocessing, ...fromSame(path, tensors, source, net, { classifier, gate }) };
  const slots = slotsOf(net).map((slot) => {
    const { attention } = source.spec; // its absence is allowed, its size shows in the tensors
    return { slot, other: differences({ ...narrowSpec(net.spec, slot), attention }, source.spec) };
  });
  const same = slots.filter((one) => one.other.length === 0).map(({ slot }) => slot);
  if (same.length > 0) return { preprocessing, ...fromPlain(path, tensors, same, net, classifier) };
  const nearest = slots.reduce((least, one) => (one.other.length < least.length ? one.other : least), other);
  throw new UsageError(
    `init: expected a ${model} or one width of it, ${path} is a ${file.model.name}: other ${nearest.join(", ")}. ` +
      "Use the --model and --norm that it was made with, and a version of dsnet whose table is the same",
  );
}

type Tensors = ReadonlyMap<string, StoredTensor>;
type Start = Pick<Init, "facts" | "fill">;

/** `taken`: whether to take the classifier, and a gate of the same kind. */
function fromSame(path: string, tensors: Tensors, source: Supernet, net: Supernet, taken: Taken): Start {
  const { classifier } = taken;
  const gates = (of: Supernet) => [of.spec.gate, of.gates.map(({ candidates }) => candidates)];
  const gate = taken.gate && isDeepStrictEqual(gates(net), gates(source));
  return {
    facts: [
      `all weights of ${path}`,
      ...(gate || net.gates.length === 0 ? [] : ["a new gate"]),
      ...classifierFacts(net, classifier),
    ],
    fill: (backend, span) => inherit(backend, net, span, tensors, { classifier, gate }),
  };
}

function fromPlain(path: string, tensors: Tensors, slots: readonly Slot[], net: Supernet, classifier: boolean): Start {
  const plain = findPlain(net, tensors, slots);
  const identity = net.spec.attention > 0 && plain.net.spec.attention === 0;
  return {
    facts: [
      `${path} as width ${plain.slot}, its best channels first`,
      ...(identity ? ["attention that starts as the identity"] : []),
      ...classifierFacts(net, classifier),
    ],
    fill: (backend, span) => inheritPlain(backend, net, span, plain, { classifier }),
  };
}

function classifierFacts({ spec }: Supernet, taken: boolean): string[] {
  return taken ? [] : [`a new classifier for ${spec.classes} classes`];
}

/** What makes two tables other networks, apart from the image's size, the classes and the gates' heads. */
function differences(wanted: ModelSpec, got: ModelSpec): string[] {
  const uncut = <R extends StemSpec | StageSpec>({ cutFrom: _, ...row }: R) => row;
  const parts = (spec: ModelSpec): Record<string, unknown> => {
    const { input, stem, stages, act, norm, attention, residual, actAfterSum = false } = spec;
    return {
      ...{ "input channels": input.channels, act, norm, attention, residual, actAfterSum },
      ...{ stem: uncut(stem), stages: stages.map(uncut) },
    };
  };
  const [ours, theirs] = [parts(wanted), parts(got)];
  return Object.keys(ours)
    .filter((key) => !isDeepStrictEqual(ours[key], theirs[key]))
    .map((key) => (typeof ours[key] === "object" ? key : `${key} (${theirs[key]}, not ${ours[key]})`));
}
