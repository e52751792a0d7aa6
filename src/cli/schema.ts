/**
 * The schema of a training run's settings: every key of TrainConfig with its check and its words for `--help`.
 * Whatever is derived from it (flags, help, messages, suggestions) walks `leaves`.
 */
import * as v from "valibot";
import { listModels } from "../models/registry.js";
import type { TrainConfig } from "../train/config.js";
import { nearest } from "./nearest.js";

// A check's message is the phrase after "expected".
const number = (about: string, expected: string, fits: (x: number) => boolean) =>
  v.pipe(
    v.number(expected),
    v.check((x) => Number.isFinite(x) && fits(x), expected),
    v.description(about),
  );
const whole = (about: string, min: number, max = Number.MAX_SAFE_INTEGER) =>
  number(
    about,
    max === Number.MAX_SAFE_INTEGER ? `a whole number ≥ ${min}` : `a whole number from ${min} to ${max}`,
    (x) => Number.isInteger(x) && x >= min && x <= max,
  );
const positive = (about: string) => number(about, "a number > 0", (x) => x > 0);
const notNegative = (about: string) => number(about, "a number ≥ 0", (x) => x >= 0);
const share = (about: string) => number(about, "a number from 0 to 1", (x) => x >= 0 && x <= 1);
const lessThanOne = (about: string) => number(about, "a number ≥ 0 and < 1", (x) => x >= 0 && x < 1);
const text = (about: string) =>
  v.pipe(
    v.string("a text"),
    v.check((x) => x.trim() !== "", "a text that is not empty"),
    v.description(about),
  );
const choice = <const T extends readonly string[]>(about: string, options: T) =>
  v.pipe(v.picklist(options, `one of ${options.join(", ")}`), v.description(about));
const range = (about: string, max: number) => {
  const expected = `two numbers, smaller first, > 0${max === Number.POSITIVE_INFINITY ? "" : ` and ≤ ${max}`}`;
  return v.pipe(
    v.tuple([v.number(), v.number()], expected),
    v.check(([low, high]) => low > 0 && low <= high && high <= max && Number.isFinite(high), expected),
    v.description(about),
  );
};
const indices = (about: string) => {
  const expected = "a list of different whole numbers ≥ 0, in rising order";
  return v.pipe(
    v.array(v.number(), expected),
    v.check(
      (list) => list.length > 0 && list.every((x, i) => Number.isSafeInteger(x) && x > (i === 0 ? -1 : list[i - 1]!)),
      expected,
    ),
    v.description(about),
  );
};
const randAugment = (about: string) => {
  const expected = 'RandAugment in timm\'s notation, for example "rand-m9-mstd0.5"';
  return v.pipe(v.string(expected), v.regex(/^rand(-[a-z]+\d+(\.\d+)?)+$/, expected), v.description(about));
};

const augment = v.strictObject({
  crop_pad: whole("zero-pad by this many pixels, then crop back at a random place; 0: off", 0),
  scale: v.nullable(range("random-resized-crop: share of the area, min,max; none: off", 1)),
  ratio: range("random-resized-crop: aspect ratio, min,max", Number.POSITIVE_INFINITY),
  hflip: share("probability of a horizontal flip"),
  color_jitter: share("brightness, contrast, saturation: factor drawn from [1 - v, 1 + v]; 0: off"),
  aa: v.nullable(randAugment("RandAugment in timm's notation, for example rand-m9-mstd0.5; none: off")),
  reprob: share("probability of random erasing"),
});

const gate = v.strictObject({
  epochs: whole("epochs of stage II; 0: leave it out", 0),
  lr: positive("learning rate of stage II"),
  weight_decay: notNegative("weight decay of the gate"),
  method: choice(
    "learn each width's probability of the true class; or the paper's losses, with the exact expectation over widths or as straight-through Gumbel",
    ["probability", "expectation", "gumbel"],
  ),
  stage: v.nullable(whole("stage whose first block holds the gate; none: the model's own", 0)),
  hidden: whole("channels of the gate's hidden layer; 0: none, as in the paper", 0),
  sgs: choice("gate sparsification: target of a sample on which the slimmest is wrong", [
    "try_best",
    "give_up",
    "none",
  ]),
  candidates: v.nullable(indices("width indices the gate chooses among, 0,1,2; none: every width")),
  task_weight: notNegative("weight of the task loss"),
  cost_weight: notNegative("weight of the cost loss"),
  sgs_weight: notNegative("weight of the sparsification loss"),
  target_madds: v.nullable(
    positive("mean MAdds to aim at; none: a third of the widest; the paper's losses press it down"),
  ),
  routing: choice("how the model chooses: by its gate, or by a cascade, on the slimmest width's confidence", [
    "gate",
    "cascade",
  ]),
  holdout: lessThanOne("share of the training images kept from stage I for the gate"),
  images: choice("what the gate learns from: held-out images, or the training images too; gumbel: held-out ones", [
    "held_out",
    "all",
  ]),
  views: whole("times the gate sees them: held-out ones as they are, then all augmented; not of gumbel", 1),
});

export const schema = v.strictObject({
  model: choice("name in the registry, see dsnet inspect --list", listModels()),
  init: v.nullable(text("start from the weights in this file: a model, or one width of it; none: random")),
  data: text("folder or archive with the images, or mnist"),
  width: v.nullable(whole("train this width alone, by labels, as a network of its own; none: the supernet", 0)),
  output: text("run folder; made if absent"),
  seed: whole("seed of all randomness", 0),
  device: choice("backend that computes", ["auto", "native", "wasm"]),
  threads: whole("kernel threads; 0: as many as cores", 0),
  workers: whole("threads that decode and augment; 0: in the main thread", 0),
  batch_size: whole("images a step", 1),
  epochs: whole("epochs of stage I", 0),
  subset: v.nullable(whole("use only N training images; none: all", 1)),
  lr: positive("peak learning rate of stage I"),
  min_lr: notNegative("learning rate at the end"),
  warmup_epochs: notNegative("epochs in which the learning rate rises"),
  warmup_lr: notNegative("learning rate at the start of the rise"),
  momentum: lessThanOne("Nesterov momentum"),
  weight_decay: notNegative("weight decay"),
  clip_grad: v.nullable(positive("longest gradient of a step of stage I, longer ones are shortened; none: any")),
  smoothing: lessThanOne("label smoothing"),
  drop: lessThanOne("dropout before the classifier, at largest only"),
  model_ema_decay: lessThanOne("decay of the teacher, the weights' moving average"),
  bootstrap: choice("targets of the narrow widths; none: labels", ["ensemble", "inplace", "distill", "none"]),
  random_widths: whole("random widths a step, beside largest and smallest", 0),
  norm: choice("batch norm per width, or group norm", ["bn", "gn"]),
  attention: choice("attention in the blocks; off: the gate reads the pooled activation", ["on", "off"]),
  recalibration_batches: whole("batches each width's norm statistics are averaged over", 1),
  augment,
  gate,
  recovery_interval: whole("steps between recovery checkpoints; 0: only at epoch ends", 0),
  max_broken: share("stop when more than this share of images is broken"),
  compat: choice("follow the paper, or the authors' code where it differs", ["paper", "published"]),
});

// The compiler refuses this line when schema and TrainConfig differ in any key or type.
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
true satisfies Same<v.InferOutput<typeof schema>, TrainConfig>;

/** One setting that a flag or a line of YAML can give. */
export interface Leaf {
  /** `lr`, `gate.epochs` */
  readonly path: string;
  readonly about: string;
  /** What its flag takes. */
  readonly kind: "number" | "text" | "choice" | "list";
  /** For `choice`. */
  readonly options: readonly string[];
  readonly nullable: boolean;
  readonly check: v.GenericSchema;
}

/** What this file's schemas may have beyond valibot's generic ones. */
type Node = v.GenericSchema & {
  entries?: Record<string, Node>;
  wrapped?: Node;
  options?: readonly string[];
};

function walk(entries: Record<string, Node>, prefix: string): Leaf[] {
  return Object.entries(entries).flatMap(([key, node]) => {
    const path = prefix + key;
    if (node.entries) return walk(node.entries, `${path}.`);
    const inner = node.wrapped ?? node;
    const kind =
      inner.type === "number"
        ? "number"
        : inner.type === "picklist"
          ? "choice"
          : inner.type === "string"
            ? "text"
            : "list";
    return {
      path,
      about: v.getDescription(inner) ?? "",
      kind,
      options: inner.options ?? [],
      nullable: inner !== node,
      check: node,
    };
  });
}

const all = walk(schema.entries as unknown as Record<string, Node>, "");

/** Every setting by its path. */
export const leaves: ReadonlyMap<string, Leaf> = new Map(all.map((leaf) => [leaf.path, leaf]));

/** Keys that hold further keys: `augment`, `gate`. */
export const sections: ReadonlySet<string> = new Set(
  all.filter(({ path }) => path.includes(".")).map(({ path }) => path.split(".")[0]!),
);

/** What timm, torchvision and people call our keys. Only for suggestions: one setting has one name. */
const aliases: Readonly<Record<string, string>> = {
  arch: "model",
  auto_augment: "augment.aa",
  bs: "batch_size",
  data_dir: "data",
  data_path: "data",
  dataset: "data",
  dropout: "drop",
  drop_rate: "drop",
  ema_decay: "model_ema_decay",
  eta_min: "min_lr",
  flip: "augment.hflip",
  gate_epochs: "gate.epochs",
  horizontal_flip: "augment.hflip",
  label_smoothing: "smoothing",
  learning_rate: "lr",
  num_workers: "workers",
  initial_checkpoint: "init",
  pretrained: "init",
  output_dir: "output",
  random_erase: "augment.reprob",
  random_erasing: "augment.reprob",
  random_seed: "seed",
  save_dir: "output",
  wd: "weight_decay",
};

/** Everything a setting may be called → its path. A whole path outranks another's last word: `lr` is not `gate.lr`. */
const names: ReadonlyMap<string, string> = new Map([
  ...all.map(({ path }) => [path.slice(path.indexOf(".") + 1), path] as const),
  ...[...sections].map((name) => [name, name] as const),
  ...all.map(({ path }) => [path, path] as const),
  ...Object.entries(aliases),
  ...["learning_rate", "wd"].map((alias) => [`gate.${alias}`, `gate.${aliases[alias]}`] as const),
]);

/** The setting or section that was probably meant by an unknown path, for example `lr` by `lerning_rate`. */
export function suggest(path: string): string | undefined {
  const name = nearest(path, names.keys()) ?? nearest(path.slice(path.lastIndexOf(".") + 1), names.keys());
  return name === undefined ? undefined : names.get(name);
}

/** `gate.weight_decay` → `--gate.weight-decay` */
export function flagOf(path: string): string {
  return `--${path.replaceAll("_", "-")}`;
}

/** The setting of a path, `gate.lr`. */
export function settingAt(config: TrainConfig, path: string): unknown {
  return path.split(".").reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], config);
}

/** A setting's value as one would type it. */
export function typed(value: unknown): string {
  return value === null ? "none" : String(value);
}
