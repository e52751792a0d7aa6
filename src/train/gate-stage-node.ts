/** Stage II's loop: the gate learns while everything else is frozen. */
import { madds } from "../cost/madds.js";
import type { Loader } from "../data/loader.js";
import { DivergedError } from "../errors.js";
import { outcomeAt, pointAtCost } from "../evaluate/calibrate.js";
import type { CalibrationPoint } from "../io/model-file.js";
import { part } from "../models/state.js";
import { gateLayers } from "../nn/gate.js";
import type { Param } from "../nn/parameters.js";
import { betweenSteps, save } from "./amid-epoch-node.js";
import type { GateConfig } from "./config.js";
import { spending } from "./defaults.js";
import { type GateSet, gateSet } from "./gate-set.js";
import { keptGateSet } from "./kept-gate-set-node.js";
import { skipStep } from "./nonfinite.js";
import { addLosses, type Progress, prefixed, takeMeans } from "./progress.js";
import { learningRate } from "./schedule.js";
import type { Session } from "./session-node.js";
import { cachedEpoch, fold, type HeadLayer, headScores, standardised, standardOf } from "./stage2-cached.js";
import { Stage2Gumbel } from "./stage2-gumbel.js";

/** Runs stage II from where `progress` stands. Returns the λ that the gate is to choose with, null when it was interrupted. */
export async function gateStage(session: Session, progress: Progress): Promise<number | null> {
  return session.config.gate.method === "gumbel" ? gumbelStage(session, progress) : cachedStage(session, progress);
}

async function cachedStage(session: Session, progress: Progress): Promise<number | null> {
  const { config, net } = session;
  const raw = await keptGateSet(session, () => computeGateSet(session));
  const costs = net.gates[0]!.candidates.map((k) => madds(net, k, true));
  const layers = readHead(session);
  const standard = standardOf(raw, layers[0]!.bias !== null);
  const set = standardised(raw, standard);
  for (; progress.epoch < config.gate.epochs; progress.epoch++) {
    const started = performance.now();
    const lr = learningRate(gateSchedule(session), progress.epoch);
    const losses = cachedEpoch(layers, set, progress.epoch, lr, {
      config: config.gate,
      madds: costs,
      seed: config.seed,
      batchSize: config.batch_size,
      momentum: config.momentum,
    });
    if (!Object.values(losses).every(Number.isFinite)) {
      throw new DivergedError(`gate epoch ${progress.epoch + 1}: NaN or infinity in the loss. ${advice(session)}`);
    }
    progress.step += Math.ceil(set.images / config.batch_size);
    writeHead(session, layers);
    const seconds = (performance.now() - started) / 1000;
    await endEpoch(session, progress, losses, standing(layers, set, costs, config.gate), set.images, seconds);
    if (session.signal?.aborted) return null;
  }
  const { lambda } = standing(layers, set, costs, config.gate);
  fold(layers[0]!, standard);
  writeHead(session, layers);
  return lambda;
}

function computeGateSet(session: Session): Promise<GateSet> {
  const { backend, config, data, learner, net } = session;
  const augmented = augmentedPasses(session);
  const total = [data.heldOut, ...augmented].reduce((sum, loader) => sum + loader.dataset.length, 0);
  const passes = [data.heldOut.inOrder(), ...augmented.map((loader, i) => loader.batches(config.epochs + i))];
  return gateSet(backend, net, learner.student, passes, config.batch_size, (done) =>
    session.emit({ type: "phase", name: "gate features", done, total }),
  );
}

/** How the gate does on the images as they are, at the λ whose choices, not only the choices' expectation, keep to the target. */
function standing(
  layers: readonly HeadLayer[],
  set: GateSet,
  costs: readonly number[],
  config: GateConfig,
): CalibrationPoint {
  const outcomes = {
    scores: headScores(layers, set, config.method, set.clean),
    correct: set.correct,
    images: set.clean,
  };
  const widest = costs[costs.length - 1]!;
  const target = config.method === "probability" ? spending(widest, config) : config.target_madds;
  return target === null ? outcomeAt(outcomes, costs, 0) : pointAtCost(outcomes, costs, target);
}

/** What is seen augmented, behind the held-out images as they are. Epochs follow those of the run's stage I: none of its augmentations comes again. */
function augmentedPasses({ config, data }: Session): Loader[] {
  const others = config.gate.images === "all" && data.unseen ? [data.heldOut, data.train] : [data.heldOut];
  return Array.from({ length: config.gate.views - 1 }, () => others).flat();
}

/** The head's layers with their momentum, copied out of the student's span. */
function readHead({ backend, net, learner }: Session): HeadLayer[] {
  const read = (param: Param, span: number) => param.unpack(part(backend, span, param));
  return gateLayers(net.gates[0]!).map(({ weight, bias }) => ({
    weight: read(weight, learner.student),
    bias: bias && read(bias, learner.student),
    weightMomentum: read(weight, learner.momentum),
    biasMomentum: bias && read(bias, learner.momentum),
    out: weight.shape[0]!,
    in: weight.shape[1]!,
  }));
}

function writeHead({ backend, net, learner }: Session, layers: readonly HeadLayer[]): void {
  gateLayers(net.gates[0]!).forEach(({ weight, bias }, i) => {
    const layer = layers[i]!;
    weight.pack(layer.weight, part(backend, learner.student, weight));
    weight.pack(layer.weightMomentum, part(backend, learner.momentum, weight));
    bias?.pack(layer.bias!, part(backend, learner.student, bias));
    bias?.pack(layer.biasMomentum!, part(backend, learner.momentum, bias));
  });
}

async function gumbelStage(session: Session, progress: Progress): Promise<number | null> {
  const { config, learner, data } = session;
  const stage2 = new Stage2Gumbel(learner, config, session.input);
  const { steps } = data.heldOut;
  try {
    for (; progress.epoch < config.gate.epochs; progress.epoch++) {
      const started = performance.now();
      const from = progress.step - progress.epoch * steps;
      for await (const batch of data.heldOut.batches(progress.epoch, { from })) {
        const before = progress.step - progress.epoch * steps;
        const lr = learningRate(
          gateSchedule(session),
          progress.epoch + (config.compat === "published" ? 0 : before / steps),
        );
        const { nonfinite, ...figures } = stage2.step(batch, progress.step, lr);
        progress.step++;
        const done = before + 1;
        if (nonfinite === null) {
          progress.bad = 0;
          addLosses(progress, figures);
          session.emit({
            type: "step",
            stage: "gate",
            epoch: progress.epoch + 1,
            step: done,
            steps,
            images: done * batch.size,
            loss: { task: figures.task, cost: figures.cost, sgs: figures.sgs },
            lr,
          });
        } else {
          skipStep(session, progress, progress.step, nonfinite, advice(session));
        }
        if (await betweenSteps(session, progress, done, steps)) return null;
      }
      const seconds = (performance.now() - started) / 1000;
      const { task = 0, cost = 0, sgs = 0, accuracy = 0, madds = 0 } = takeMeans(progress);
      await endEpoch(
        session,
        progress,
        { task, cost, sgs },
        { accuracy, madds },
        (steps - from) * data.heldOut.batchSize,
        seconds,
      );
      if (session.signal?.aborted) return null;
    }
    return 0;
  } finally {
    stage2.dispose();
  }
}

function advice({ folder }: Session): string {
  return `Lower gate.lr in a new run; with --init ${folder.path}/last.safetensors --epochs 0 it begins with this stage.`;
}

async function endEpoch(
  session: Session,
  progress: Progress,
  loss: Record<string, number>,
  on: { accuracy: number; madds: number },
  images: number,
  seconds: number,
): Promise<void> {
  const { config, folder } = session;
  folder.epoch({
    stage: "gate",
    epoch: progress.epoch + 1,
    ...prefixed("loss_", loss),
    top1_dynamic: on.accuracy,
    madds: on.madds,
  });
  await save(session, { ...progress, epoch: progress.epoch + 1 });
  session.emit({
    type: "epoch",
    stage: "gate",
    epoch: progress.epoch + 1,
    epochs: config.gate.epochs,
    seconds,
    imagesPerSecond: images / seconds,
    loss,
    accuracy: { dynamic: on.accuracy },
  });
}

function gateSchedule({ config }: Session) {
  const { lr, epochs } = config.gate;
  return { lr, epochs, min_lr: config.min_lr, warmup_lr: lr, warmup_epochs: 0 };
}
