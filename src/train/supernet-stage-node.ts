/** Stage I's loop: batches, steps, checkpoints, an evaluation on held-out images after every epoch. */
import { measure } from "../evaluate/measure.js";
import { allocSpan } from "../models/state.js";
import type { Tensor } from "../ops/tensor.js";
import { betweenSteps, save } from "./amid-epoch-node.js";
import { modelFile } from "./checkpoint.js";
import { firstNonfinite, skipStep } from "./nonfinite.js";
import type { Profile } from "./profile.js";
import { addLosses, meanLosses, type Progress, prefixed, takeMeans, toState } from "./progress.js";
import { Recalibration } from "./recalibrate.js";
import { learningRate } from "./schedule.js";
import type { Session } from "./session-node.js";
import { Stage1 } from "./stage1.js";

/** Steps between lines in metrics.jsonl. */
const LOG_INTERVAL = 20;
/** Batches that the recalibration before an epoch's evaluation averages over. */
const QUICK_RECALIBRATION = 20;

/** What only stage II's rows of results.csv fill. */
const GATE_COLUMNS = { loss_task: null, loss_cost: null, loss_sgs: null, top1_dynamic: null, madds: null };

/** Runs stage I from where `progress` stands. Returns false when it was interrupted; a checkpoint is then saved. */
export async function supernetStage(session: Session, progress: Progress, profile?: Profile): Promise<boolean> {
  const { config, learner, data, folder } = session;
  const stage1 = new Stage1(learner, config, config.batch_size);
  const { steps } = data.train;
  try {
    for (; progress.epoch < config.epochs; progress.epoch++) {
      const started = performance.now();
      const from = progress.step - progress.epoch * steps;
      profile?.enter("data");
      for await (const batch of data.train.batches(progress.epoch, { from })) {
        profile?.enter("step");
        const images = session.input.write(batch.images, batch.labels);
        const t = config.compat === "published" ? progress.epoch : progress.step / steps;
        const lr = learningRate(config, t);
        const losses = step(session, stage1, images, progress, lr);
        profile?.enter("checkpoint");
        const done = progress.step - progress.epoch * steps;
        if (progress.step % LOG_INTERVAL === 0) logStep(session, progress, lr, losses);
        session.emit({
          type: "step",
          stage: "supernet",
          epoch: progress.epoch + 1,
          step: done,
          steps,
          images: done * data.train.batchSize,
          loss: meanLosses(progress),
          lr,
        });
        if (await betweenSteps(session, progress, done, steps)) return false;
        profile?.enter("data");
      }
      const seconds = (performance.now() - started) / 1000;
      const loss = takeMeans(progress);
      profile?.enter("evaluation");
      const accuracy = await heldOutAccuracy(session);
      profile?.enter("checkpoint");
      const numbered = Object.values(accuracy);
      const mean = numbered.reduce((a, b) => a + b, 0) / numbered.length;
      const better = mean > progress.best;
      progress.best = Math.max(progress.best, mean);
      folder.epoch({
        stage: "supernet",
        epoch: progress.epoch + 1,
        ...prefixed("loss_", loss),
        ...prefixed("top1_", accuracy),
        ...GATE_COLUMNS,
      });
      const next: Progress = { ...progress, epoch: progress.epoch + 1 };
      if (better) await folder.save("best", modelFile(learner, session.about, { training: toState(next) }));
      await save(session, next);
      session.emit({
        type: "epoch",
        stage: "supernet",
        epoch: progress.epoch + 1,
        epochs: config.epochs,
        seconds,
        imagesPerSecond: ((steps - from) * data.train.batchSize) / seconds,
        loss,
        accuracy,
      });
      if (session.signal?.aborted) return false;
    }
    return true;
  } finally {
    profile?.enter(null);
    stage1.dispose();
  }
}

/** One optimiser step; its losses. One with NaN or infinity is left out and has none. */
function step(
  session: Session,
  stage1: Stage1,
  images: Tensor,
  progress: Progress,
  lr: number,
): Record<string, number> {
  const { config, learner, input } = session;
  learner.saveStatistics();
  const draws = stage1.draws(progress.step, images.n);
  const losses: Record<string, number> = { ...stage1.backward(images, input.labels, progress.step, draws) };
  const broken = Object.entries(losses).find(([, value]) => !Number.isFinite(value))?.[0];
  const parameter = broken === undefined ? learner.nonfiniteGradient() : null;
  progress.step++;
  if (broken !== undefined || parameter !== null) {
    const routes = draws.passes.filter((pass) => pass.name === broken).map((pass) => pass.route);
    const layer = firstNonfinite(learner, images, routes);
    learner.restoreStatistics();
    const where = parameter !== null ? `the gradient of ${parameter}` : `the loss of the ${broken} width`;
    const origin = layer === null ? where : `${where}, first in ${layer}`;
    const best = session.folder.saved("best");
    const advice =
      "Lower lr, raise warmup_epochs or set clip_grad in a new run" +
      (best ? `; --init ${best} starts it from this one's best epoch.` : ".");
    skipStep(session, progress, progress.step, origin, advice);
    return {};
  }
  progress.bad = 0;
  if (config.clip_grad !== null) learner.clipGradients(config.clip_grad);
  learner.step(["decayed", "plain"], { lr, momentum: config.momentum, weightDecay: config.weight_decay });
  learner.ema(emaDecay(config, progress.step));
  addLosses(progress, losses);
  return losses;
}

/** Of every numbered width, on a copy of the student, so that an evaluation leaves no trace in the training. */
async function heldOutAccuracy(session: Session): Promise<Record<string, number>> {
  const { backend, net, learner, data } = session;
  const total = data.heldOut.dataset.length;
  const copy = allocSpan(backend, net.layout.floats);
  try {
    backend.u8.copyWithin(copy, learner.student, learner.student + net.layout.floats * 4);
    await recalibrateSpan(session, copy, QUICK_RECALIBRATION, null);
    const { widths } = await measure(backend, net, copy, data.heldOut.inOrder(), {
      batch: data.heldOut.batchSize,
      onProgress: (done) => session.emit({ type: "phase", name: "evaluate", done, total }),
    });
    return Object.fromEntries(
      widths.map(({ width, correct }) => [String(width), correct.reduce((a, b) => a + b, 0) / correct.length]),
    );
  } finally {
    backend.arena.free(copy);
  }
}

/** Measures every width's statistics in `span` on clean training images (augmented ones in the published way). */
export async function recalibrateSpan(
  session: Session,
  span: number,
  batches: number,
  phase: string | null,
): Promise<void> {
  const { config, backend, net, data, input } = session;
  const recalibration = new Recalibration(backend, net, span, config.compat);
  const total = Math.min(batches, data.train.steps);
  let done = 0;
  for await (const batch of data.train.batches(0, { clean: config.compat !== "published" })) {
    recalibration.add(input.write(batch.images, batch.labels));
    done++;
    if (phase !== null) session.emit({ type: "phase", name: phase, done, total });
    if (done >= total) break;
  }
}

/** After `step` steps: (1 + n) / (10 + n), as timm, up to the configured decay. The published code has no such warm-up. */
function emaDecay({ model_ema_decay, compat }: Session["config"], step: number): number {
  return compat === "published" ? model_ema_decay : Math.min(model_ema_decay, (1 + step) / (10 + step));
}

/** The step's own losses, in which a beginning divergence shows that the epoch's means hide. */
function logStep(session: Session, progress: Progress, lr: number, losses: Record<string, number>): void {
  session.folder.step({
    stage: progress.stage,
    epoch: progress.epoch + 1,
    step: progress.step,
    lr,
    ...prefixed("loss_", losses),
  });
}
