/**
 * A network's weights taken from others: from one of the same table by name, or from a plain one of a single width, which
 * becomes the prefix of a supernet. What is not taken stays as it is in the span, a random start.
 */
import type { Backend } from "../backend/backend.js";
import { FormatError } from "../errors.js";
import { asFloat32 } from "../io/float32.js";
import { checkTensors } from "../io/model-file.js";
import type { StoredTensor } from "../io/safetensors.js";
import type { Param } from "../nn/parameters.js";
import type { Slot } from "../nn/width.js";
import { build, type Supernet, slotsOf } from "./build.js";
import { layersAlong, sortChannels } from "./channels.js";
import { narrowSpec } from "./slice.js";
import { part } from "./state.js";

type Tensors = ReadonlyMap<string, StoredTensor>;

/** What is taken besides the layers that every network of a table has. A classifier that is not taken starts at zero. */
export interface Taken {
  classifier: boolean;
  gate: boolean;
}

/** Takes the parameters by name. */
export function inherit(backend: Backend, net: Supernet, span: number, tensors: Tensors, taken: Taken): void {
  const { weight, bias } = net.classifier;
  for (const param of net.layout.params) {
    const own = param === weight || param === bias ? !taken.classifier : !taken.gate && param.role.startsWith("gate");
    if (!own) param.pack(asFloat32(tensors.get(param.name)!), part(backend, span, param));
  }
  if (!taken.classifier) clearClassifier(backend, net, span);
}

/**
 * Trained features are large, and random weights on them make confident mistakes, whose first gradients spoil the features. With
 * zeros every class is as likely as another.
 */
function clearClassifier(backend: Backend, { classifier }: Supernet, span: number): void {
  part(backend, span, classifier.weight).fill(0);
}

/** A network of a single width, and the supernet's width that it is. */
export interface PlainNetwork {
  readonly slot: Slot;
  readonly net: Supernet;
  /** Under the names of `net`. */
  readonly tensors: Tensors;
}

/** A norm of one width goes by its layer's name alone, as everywhere else, or by the published networks' naming. */
const plainName = (name: string) => name.replace(".aux_bn.0.", ".");

/**
 * The width of a supernet that tensors are all of, with its attention or without: `bn1.weight`, `bn1.running_mean`, everything
 * else named as in the supernet. `slots`: where to look. FormatError that names what differs from the nearest width where none fits.
 */
export function findPlain(net: Supernet, tensors: Tensors, slots: readonly Slot[] = slotsOf(net)): PlainNetwork {
  const { spec } = net;
  const named = new Map([...tensors].map(([name, tensor]) => [plainName(name), tensor]));
  const classes = named.get("classifier.weight")?.shape[0] || spec.classes;
  const tries = slots.flatMap((slot) =>
    [...new Set([spec.attention, 0])].map((attention) => {
      const plain = build({ ...narrowSpec(spec, slot), attention, classes });
      const expected = new Map(plain.layout.params.map(({ name, fileShape }) => [plainName(name), fileShape]));
      const fitting = [...expected].filter(([name, shape]) => String(named.get(name)?.shape) === String(shape)).length;
      // Of every tensor that either has, those that both have.
      return { slot, net: plain, expected, share: fitting / (expected.size + named.size - fitting) };
    }),
  );
  const best = tries.reduce((a, b) => (b.share > a.share ? b : a));
  try {
    checkTensors(best.expected, named);
  } catch (cause) {
    throw new FormatError(`As width ${best.slot}, the nearest: ${(cause as Error).message}`, { cause });
  }
  const { slot, net: plain } = best;
  const own = plain.layout.params.map(({ name }) => [name, named.get(plainName(name))!] as const);
  return { slot, net: plain, tensors: new Map(own) };
}

/**
 * Puts a plain network into the prefix of a supernet's weights, its best channels first, so that the supernet at `slot` is the
 * plain network's function. Its norm statistics stand for those of every width, until they are measured. Where it has no
 * attention, the supernet's start as the identity. The gates' heads stay as they are.
 */
export function inheritPlain(
  backend: Backend,
  net: Supernet,
  span: number,
  plain: PlainNetwork,
  { classifier }: Pick<Taken, "classifier">,
): void {
  const tensors = sortChannels(plain.net, plain.tensors);
  const fill = (param: Param, source: Param, factor = 1) =>
    place(tensors.get(source.name)!, factor, param, part(backend, span, param));
  const attention = plain.net.spec.attention > 0;
  const sources = layersAlong(plain.net, 0).values();
  for (const { weight, bias, norm, scaled, attention: role } of layersAlong(net, plain.slot)) {
    if (!attention && role !== null) {
      // All factors are sigmoid(0) = ½, whatever the reduced features are, and the layer that reads the product has doubled
      // weights: exact, and far from where the sigmoid is flat. Until the first step moves `expand`, `reduce` has no gradient.
      if (role === "expand") part(backend, span, weight).fill(0);
      continue;
    }
    const source = sources.next().value!;
    if (weight === net.classifier.weight && !classifier) {
      clearClassifier(backend, net, span);
      continue;
    }
    fill(weight, source.weight, !attention && scaled ? 2 : 1);
    if (bias !== null) fill(bias, source.bias!);
    if (norm === null) continue;
    fill(norm.weight, source.norm!.weight);
    fill(norm.bias, source.norm!.bias);
    const [measured] = source.norm!.stats;
    for (const stats of norm.stats) {
      fill(stats.mean, measured!.mean);
      fill(stats.var, measured!.var);
    }
  }
}

/** Writes a tensor, times `factor`, over the first channels of a parameter; of the statistics of a narrower width it is the first. */
function place(tensor: StoredTensor, factor: number, param: Param, floats: Float32Array): void {
  const source = asFloat32(tensor);
  const [o = 1, i = 1, ...kernel] = tensor.shape;
  const [rows = 1, inputs = 1] = param.shape;
  const taps = kernel.reduce((a, b) => a * b, 1);
  const values = param.unpack(floats);
  for (let a = 0; a < Math.min(o, rows); a++) {
    for (let at = 0; at < i * taps; at++) values[a * inputs * taps + at] = factor * source[a * i * taps + at]!;
  }
  param.pack(values, floats);
}
