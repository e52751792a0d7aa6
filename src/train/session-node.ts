/** Everything a run needs, made from its configuration: data, network, learner, run folder. */
import type { Backend } from "../backend/backend.js";
import { openBackend } from "../backend/open.js";
import { madds } from "../cost/madds.js";
import type { Dataset } from "../data/dataset.js";
import type { Loader } from "../data/loader.js";
import { openLoader } from "../data/loader-node.js";
import { openData } from "../data/open-node.js";
import { pixelStatistics } from "../data/statistics.js";
import { UsageError } from "../errors.js";
import type { Preprocessing } from "../image/preprocess.js";
import { build, type Supernet } from "../models/build.js";
import { allocSpan, initState } from "../models/state.js";
import type { Description } from "./checkpoint.js";
import type { TrainConfig } from "./config.js";
import type { TrainEvent } from "./events.js";
import { openInit } from "./init-node.js";
import { Input } from "./input.js";
import { Learner } from "./learner.js";
import { partsOf } from "./parts.js";
import type { RunFolder } from "./run-folder-node.js";
import { checkGumbel } from "./stage2-gumbel.js";
import { tableOf } from "./table.js";

export interface Session {
  readonly config: TrainConfig;
  readonly backend: Backend;
  readonly net: Supernet;
  readonly learner: Learner;
  readonly input: Input;
  readonly about: Description;
  readonly folder: RunFolder;
  readonly data: {
    /** What stage I learns from. */
    train: Loader;
    /** What stage I never sees: choices are made on it, and the gate learns from it. The training images where none are held out. */
    heldOut: Loader;
    /** False where `heldOut` is the training images. */
    unseen: boolean;
    /** Only ever reported. */
    val: Loader;
  };
  /** What the first weights were taken from, in words; empty where they are random, or the checkpoint's. */
  readonly inherited: readonly string[];
  /** Whether there is a stage II: a gate, and epochs for it to learn in. */
  readonly gated: boolean;
  readonly signal: AbortSignal | undefined;
  emit(event: TrainEvent): void;
  close(): Promise<void>;
}

/** Validation images a call of the engine; the other parts come in training batches. */
const EVALUATION_BATCH = 100;

export async function openSession(
  config: TrainConfig,
  folder: RunFolder,
  emit: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<Session> {
  const warn = (message: string) => emit({ type: "warning", message });
  const table = tableOf(config);
  const { channels } = table.spec.input;
  const { train, val } = await openData(config.data, { channels, onWarning: warn });
  const { used, learned, heldOut } = partsOf(train, config);
  const spec = { ...table.spec, classes: train.classNames.length };
  const net = build(spec);
  const gated = net.gates.length > 0 && config.gate.epochs > 0;
  if (gated) checkGate(net, config);
  if (learned.length < config.batch_size) {
    warn(`batch_size: ${config.batch_size} is more than the ${learned.length} training images; a step takes them all`);
  }
  const absent = learned.classNames.length - new Set(learned.labels).size;
  if (absent > 0) {
    warn(`${absent} of ${learned.classNames.length} classes are not among the ${learned.length} training images`);
  }
  const { checkpoint } = folder;
  const init =
    config.init === null || checkpoint !== undefined
      ? null
      : await openInit(config.init, {
          net,
          model: table.name,
          classes: train.classNames,
          gate: config.gate.method === "gumbel",
        });
  // Weights go on seeing what they were made for.
  const preprocessing: Preprocessing = {
    ...(checkpoint?.preprocessing ??
      init?.preprocessing ?? {
        ...(await pixelStatistics(used, channels, config.seed, (done, total) =>
          emit({ type: "phase", name: "pixel statistics", done, total }),
        )),
        interpolation: "bicubic",
        cropPct: spec.input.height > 64 ? 0.875 : 1,
      }),
    ...spec.input,
  };
  const backend = await openBackend({ device: config.device, threads: config.threads });
  const loaders: Loader[] = [];
  const close = async () => {
    await Promise.all(loaders.map((loader) => loader.close()));
    backend.dispose();
  };
  try {
    const span = allocSpan(backend, net.layout.floats);
    initState(backend, net, span, config.seed);
    init?.fill(backend, span);
    const loader = (dataset: Dataset, batchSize: number, augment: boolean) => {
      const opened = openLoader(dataset, {
        batchSize: Math.min(batchSize, dataset.length),
        input: preprocessing,
        augment: augment ? config.augment : null,
        seed: config.seed,
        maxBroken: config.max_broken,
        onWarning: warn,
        workers: config.workers,
      });
      loaders.push(opened);
      return opened;
    };
    const data = {
      train: loader(learned, config.batch_size, true),
      heldOut: loader(heldOut, config.batch_size, true),
      unseen: heldOut !== learned,
      val: loader(val, EVALUATION_BATCH, false),
    };
    return {
      config,
      backend,
      net,
      learner: new Learner(backend, net, span),
      input: new Input(backend, net, config.batch_size),
      about: { model: { name: table.name, spec }, classes: [...train.classNames], preprocessing },
      folder,
      data,
      inherited: init?.facts ?? [],
      gated,
      signal,
      emit,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Throws UsageError where stage II could not do what it is told: better before stage I than after it. */
function checkGate(net: Supernet, { model, gate }: TrainConfig): void {
  if (gate.method === "gumbel") checkGumbel(net);
  else if (net.gates.length !== 1) {
    throw new UsageError(
      `gate.method "${gate.method}" needs a network with one gate, ${model} has ${net.gates.length}; use "gumbel"`,
    );
  }
  if (gate.routing === "cascade" && net.gates.length !== 1) {
    throw new UsageError(`gate.routing "cascade" needs a network with one gate, ${model} has ${net.gates.length}`);
  }
  if (gate.routing === "cascade" && gate.holdout === 0) {
    throw new UsageError(
      'gate.routing "cascade" needs images that stage I has not seen: set gate.holdout above 0, or gate.routing to "gate"',
    );
  }
  if (gate.method === "probability" && gate.sgs !== "none") {
    throw new UsageError(
      `gate.sgs: expected none with gate.method "probability", which has no such loss; got ${gate.sgs}`,
    );
  }
  if (gate.target_madds === null) return;
  const { candidates } = net.gates[0]!;
  const least = madds(net, candidates[0]!, true);
  const most = madds(net, candidates[candidates.length - 1]!, true);
  if (gate.target_madds < least || gate.target_madds > most) {
    throw new UsageError(
      `gate.target_madds: expected ${least} to ${most}, what the gate's candidates cost, got ${gate.target_madds}`,
    );
  }
}
