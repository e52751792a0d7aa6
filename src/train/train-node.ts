/** A training run from its configuration to its report: stage I, recalibration, stage II, evaluation. */
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { UsageError } from "../errors.js";
import type { ModelFile } from "../io/model-file.js";
import { readSpec } from "../models/read-spec.js";
import { checkpoint, restore } from "./checkpoint.js";
import type { TrainConfig } from "./config.js";
import type { TrainEvent, TrainResult } from "./events.js";
import { finish } from "./finish-node.js";
import { gateStage } from "./gate-stage-node.js";
import { Profile } from "./profile.js";
import { fromState, type Progress, startOf, toState } from "./progress.js";
import { RunFolder } from "./run-folder-node.js";
import { openSession, type Session } from "./session-node.js";
import { recalibrateSpan, supernetStage } from "./supernet-stage-node.js";

export interface TrainOptions {
  /** Aborting finishes the step, saves, and resolves with `interrupted`. */
  signal?: AbortSignal;
  /** Go on with the run in the folder. */
  resume?: boolean;
  /** Measure where stage I's time goes: an event at the end tells. */
  profile?: boolean;
  onEvent?: (event: TrainEvent) => void;
}

/**
 * Trains a network in both stages and writes the run folder (args.yaml, results.csv, metrics.jsonl, last and best
 * checkpoints, seconds.json, report.html). Same configuration and kernel build, same bits, however often it is stopped and resumed and
 * for any number of threads and workers.
 *
 * Throws UsageError (configuration, folder in use), DataError, FormatError, StorageError, DivergedError.
 */
export async function train(config: TrainConfig, options: TrainOptions = {}): Promise<TrainResult> {
  const { signal, resume = false, profile: profiled = false, onEvent = () => {} } = options;
  const folder = await RunFolder.open(config.output, config, { resume });
  let session: Session | undefined;
  try {
    session = await openSession(config, folder, onEvent, signal);
    for (const message of folder.warnings) onEvent({ type: "warning", message });
    let progress = startOf("supernet");
    if (folder.checkpoint) {
      checkTable(folder, session.about.model);
      restore(session.learner, folder.checkpoint);
      progress = fromState(folder.checkpoint.training);
      const build = folder.checkpoint.kernelBuild;
      if (build !== session.backend.build) {
        const message = `the run so far was computed by ${build}, it goes on with ${session.backend.build}: the last bits may differ`;
        onEvent({ type: "warning", message });
      }
    } else if (config.init !== null) {
      // From now on the run is whole without that file.
      await folder.save("last", checkpoint(session.learner, session.about, toState(progress)));
    }
    onEvent({ type: "start", facts: facts(session) });
    const profile = profiled ? new Profile(session.backend) : undefined;
    const finished = await stages(session, progress, profile);
    if (profile) onEvent({ type: "profile", ...profile.report() });
    if (finished === null) {
      return { evaluation: undefined, report: "", model: join(folder.path, "last.safetensors"), interrupted: true };
    }
    onEvent({ type: "saved", path: finished.model });
    return { ...finished, interrupted: false };
  } finally {
    await session?.close();
    await folder.close({ discard: session === undefined && !resume });
  }
}

/** Another version may have another table under the model's name, whose tensors may fit all the same. */
function checkTable({ path, checkpoint }: RunFolder, { name, spec }: ModelFile["model"]): void {
  const table = (value: unknown) => ({ ...readSpec(value, path), description: "" });
  if (isDeepStrictEqual(table(checkpoint!.model.spec), table(spec))) return;
  throw new UsageError(
    `resume: the run in ${path} was begun with another table of ${name} than this version has. ` +
      "Resume it with the version that began it, or train anew in another folder (--output)",
  );
}

/** Null when interrupted. */
async function stages(session: Session, from: Progress, profile?: Profile) {
  const { config, learner, net } = session;
  let progress = from;
  if (progress.stage === "supernet") {
    if (!(await supernetStage(session, progress, profile))) return null;
    await recalibrateSpan(session, learner.student, config.recalibration_batches, "recalibrate");
    learner.backend.call({ op: "fill", x: learner.momentum, count: net.layout.trainable, value: 0 });
    progress = startOf("gate", progress.best);
    await session.folder.save("last", checkpoint(learner, session.about, toState(progress)));
    if (session.signal?.aborted) return null;
  }
  if (!session.gated) return finish(session, progress, null);
  const lambda = await gateStage(session, progress);
  return lambda === null ? null : finish(session, progress, lambda);
}

function facts({ config, backend, net, data, about, inherited }: Session): Record<string, unknown> {
  return {
    model: about.model.name,
    ...(inherited.length > 0 && { init: inherited }),
    data: config.data,
    classes: about.classes.length,
    train_images: data.train.dataset.length,
    held_out_images: data.unseen ? data.heldOut.dataset.length : 0,
    val_images: data.val.dataset.length,
    parameters: net.layout.params.reduce((sum, p) => sum + (p.role === "statistic" ? 0 : p.size), 0),
    device: backend.build,
    threads: backend.threads,
    // The first note is the device and its threads again.
    ...(backend.notes.length > 1 ? { notes: backend.notes.slice(1) } : {}),
    output: config.output,
  };
}
