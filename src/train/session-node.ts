/** Everything a run needs, made from its configuration: data, network, learner, run folder. */
import type { Backend } from "../backend/backend.js";
import { openBackend } from "../backend/open.js";
import { type Dataset, sample, split } from "../data/dataset.js";
import type { Loader } from "../data/loader.js";
import { openLoader } from "../data/loader-node.js";
import { openData } from "../data/open-node.js";
import { pixelStatistics } from "../data/statistics.js";
import { UsageError } from "../errors.js";
import type { Preprocessing } from "../image/preprocess.js";
import { build, type Supernet } from "../models/build.js";
import { modelSpec } from "../models/registry.js";
import type { ModelSpec } from "../models/spec.js";
import { allocSpan, initState } from "../models/state.js";
import type { Description } from "./checkpoint.js";
import type { TrainConfig } from "./config.js";
import type { TrainEvent } from "./events.js";
import { Input } from "./input.js";
import { Learner } from "./learner.js";
import type { RunFolder } from "./run-folder-node.js";
import { checkGumbel } from "./stage2-gumbel.js";

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
  readonly signal: AbortSignal | undefined;
  emit(event: TrainEvent): void;
  close(): Promise<void>;
}

/** Images a call of the engine in evaluation; smaller than a training batch's memory in any case. */
export const EVALUATION_BATCH = 100;

export async function openSession(
  config: TrainConfig,
  folder: RunFolder,
  emit: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<Session> {
  const warn = (message: string) => emit({ type: "warning", message });
  const table = modelSpec(config.model);
  const { channels } = table.input;
  const { train, val } = await openData(config.data, { channels, onWarning: warn });
  const used = config.subset === null ? train : sample(train, Math.min(config.subset, train.length), config.seed);
  const parts = config.gate.holdout > 0 ? split(used, config.gate.holdout, config.seed) : null;
  const spec: ModelSpec = {
    ...table,
    norm: config.norm,
    classes: train.classNames.length,
    candidates: config.gate.candidates,
  };
  const net = build(spec);
  if (config.gate.method === "gumbel" && config.gate.epochs > 0) checkGumbel(net);
  if (net.gates.length !== 1 && config.gate.method === "expectation" && config.gate.epochs > 0) {
    throw new UsageError(
      `gate.method "expectation" needs a network with one gate, ${config.model} has ${net.gates.length}; use "gumbel"`,
    );
  }
  const preprocessing: Preprocessing = {
    height: table.input.height,
    width: table.input.width,
    channels,
    ...(await pixelStatistics(used, channels, config.seed)),
    interpolation: "bicubic",
    cropPct: table.input.height > 64 ? 0.875 : 1,
  };
  const backend = await openBackend({ device: config.device, threads: config.threads });
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, config.seed);
  const learner = new Learner(backend, net, span);
  const loader = (dataset: Dataset, batchSize: number, augment: boolean) =>
    openLoader(dataset, {
      batchSize: Math.min(batchSize, dataset.length),
      input: preprocessing,
      augment: augment ? config.augment : null,
      seed: config.seed,
      maxBroken: config.max_broken,
      onWarning: warn,
      workers: config.workers,
    });
  const data = {
    train: loader(parts?.kept ?? used, config.batch_size, true),
    heldOut: loader(parts?.heldOut ?? used, config.batch_size, true),
    unseen: parts !== null,
    val: loader(val, EVALUATION_BATCH, false),
  };
  return {
    config,
    backend,
    net,
    learner,
    input: new Input(backend, net, Math.max(config.batch_size, EVALUATION_BATCH)),
    about: { model: { name: config.model, spec }, classes: [...train.classNames], preprocessing },
    folder,
    data,
    signal,
    emit,
    async close() {
      await Promise.all([data.train.close(), data.heldOut.close(), data.val.close()]);
      backend.dispose();
    },
  };
}
