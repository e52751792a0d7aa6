/** Stage II's loop: the gate learns on held-out images while everything else is frozen. */
import { madds } from "../cost/madds.js";
import { DivergedError } from "../errors.js";
import { checkpoint } from "./checkpoint.js";
import { type GateLosses } from "./gate-loss.js";
import { type GateSet, gateSet } from "./gate-set.js";
import { type Progress, toState } from "./progress.js";
import { learningRate } from "./schedule.js";
import { EVALUATION_BATCH, type Session } from "./session-node.js";
import { expectationEpoch, type Head, headScores } from "./stage2-expectation.js";
import { Stage2Gumbel } from "./stage2-gumbel.js";
import { prefixed } from "./supernet-stage-node.js";

/** Runs stage II from where `progress` stands. Returns false when it was interrupted. */
export async function gateStage(session: Session, progress: Progress): Promise<boolean> {
  return session.config.gate.method === "expectation"
    ? expectationStage(session, progress)
    : gumbelStage(session, progress);
}

async function expectationStage(session: Session, progress: Progress): Promise<boolean> {
  const { backend, config, net, learner, data } = session;
  const total = data.heldOut.dataset.length;
  const set = await gateSet(backend, net, learner.student, data.heldOut.inOrder(), inOrderBatch(session), (done) =>
    session.emit({ type: "phase", name: "gate features", done, total }),
  );
  const gate = net.gates[0]!;
  const costs = gate.candidates.map((k) => madds(net, k, true));
  const param = gate.head.weight;
  const packed = (span: number) => backend.f32.subarray(param.in(span) / 4, param.in(span) / 4 + param.floats);
  const head: Head = {
    weight: param.unpack(packed(learner.student)),
    momentum: param.unpack(packed(learner.momentum)),
  };
  for (; progress.epoch < config.gate.epochs; progress.epoch++) {
    const started = performance.now();
    const lr = learningRate(gateSchedule(session), progress.epoch);
    const losses = expectationEpoch(head, set, progress.epoch, lr, {
      config: config.gate,
      madds: costs,
      seed: config.seed,
      batchSize: config.batch_size,
      momentum: config.momentum,
    });
    if (!Object.values(losses).every(Number.isFinite)) {
      throw new DivergedError(`gate epoch ${progress.epoch + 1}: NaN or infinity in the loss. Lower gate.lr.`);
    }
    progress.step += Math.ceil(set.images / config.batch_size);
    param.pack(head.weight, packed(learner.student));
    param.pack(head.momentum, packed(learner.momentum));
    const seconds = (performance.now() - started) / 1000;
    await endEpoch(session, progress, losses, chosen(set, head.weight, costs), set.images, seconds);
    if (session.signal?.aborted) return false;
  }
  return true;
}

async function gumbelStage(session: Session, progress: Progress): Promise<boolean> {
  const { config, learner, data } = session;
  const stage2 = new Stage2Gumbel(learner, config, session.input);
  const { steps } = data.heldOut;
  try {
    for (; progress.epoch < config.gate.epochs; progress.epoch++) {
      const started = performance.now();
      const sums = { task: 0, cost: 0, sgs: 0, accuracy: 0, madds: 0 };
      let done = 0;
      for await (const batch of data.heldOut.batches(progress.epoch)) {
        const lr = learningRate(
          gateSchedule(session),
          progress.epoch + (config.compat === "published" ? 0 : done / steps),
        );
        const result = stage2.step(batch, progress.epoch * steps + done, lr);
        for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += result[key] / steps;
        done++;
        session.emit({
          type: "step",
          stage: "gate",
          epoch: progress.epoch + 1,
          step: done,
          steps,
          images: done * batch.size,
          loss: { task: result.task, cost: result.cost, sgs: result.sgs },
          lr,
        });
        await new Promise(setImmediate);
        // An epoch of stage II is short: it is run again from its start, from the last checkpoint.
        if (session.signal?.aborted) return false;
      }
      progress.step += steps;
      const seconds = (performance.now() - started) / 1000;
      const { task, cost, sgs, accuracy, madds } = sums;
      await endEpoch(session, progress, { task, cost, sgs }, { accuracy, madds }, steps * config.batch_size, seconds);
      if (session.signal?.aborted) return false;
    }
    return true;
  } finally {
    stage2.dispose();
  }
}

async function endEpoch(
  session: Session,
  progress: Progress,
  losses: GateLosses,
  on: { accuracy: number; madds: number },
  images: number,
  seconds: number,
): Promise<void> {
  const { config, folder } = session;
  const loss: Record<string, number> = { ...losses };
  folder.epoch({
    stage: "gate",
    epoch: progress.epoch + 1,
    ...prefixed("loss_", loss),
    top1_dynamic: on.accuracy,
    madds: on.madds,
  });
  const next: Progress = { ...progress, epoch: progress.epoch + 1 };
  await folder.save("last", checkpoint(session.learner, session.about, toState(next)));
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

/** Accuracy and mean MAdds of the gate's argmax on its own set. */
function chosen(set: GateSet, weight: Float32Array, costs: readonly number[]): { accuracy: number; madds: number } {
  const rows = Array.from({ length: set.images }, (_, i) => i);
  const scores = headScores(set, rows, weight);
  let right = 0;
  let spent = 0;
  for (const i of rows) {
    let best = 0;
    for (let k = 1; k < costs.length; k++) {
      if (scores[i * costs.length + k]! > scores[i * costs.length + best]!) best = k;
    }
    right += set.correct[i * costs.length + best]!;
    spent += costs[best]!;
  }
  return { accuracy: right / set.images, madds: spent / set.images };
}

function gateSchedule({ config }: Session) {
  const { lr, epochs } = config.gate;
  return { lr, epochs, min_lr: config.min_lr, warmup_lr: lr, warmup_epochs: 0 };
}

/** Batch of `heldOut.inOrder()`, whose loader has the training batch size. */
function inOrderBatch({ config }: Session): number {
  return Math.max(config.batch_size, EVALUATION_BATCH);
}
