/** What either stage does between two steps of an epoch: save where it is due, let others work, hear of an interruption. */
import { checkpoint } from "./checkpoint.js";
import { type Progress, toState } from "./progress.js";
import type { Session } from "./session-node.js";

/** `done` of the epoch's `steps` are. True: interrupted, and all is saved. */
export async function betweenSteps(
  session: Session,
  progress: Progress,
  done: number,
  steps: number,
): Promise<boolean> {
  const { recovery_interval } = session.config;
  const interrupted = session.signal?.aborted === true;
  const recover = recovery_interval > 0 && progress.step % recovery_interval === 0;
  // Not amid bad steps: they may be the last, and the checkpoint before them is what is left. An interruption waits for a good one.
  if ((interrupted || recover) && done < steps && progress.bad === 0) {
    await save(session, progress);
    if (interrupted) return true;
  }
  // Let signals and other work in: a step itself is synchronous.
  await new Promise(setImmediate);
  return false;
}

export async function save(session: Session, progress: Progress): Promise<void> {
  await session.folder.save("last", checkpoint(session.learner, session.about, toState(progress)));
}
