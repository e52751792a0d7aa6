/** Steps with NaN or infinity: where it came from, and what becomes of the run. */
import { DivergedError } from "../errors.js";
import { walkNetwork } from "../models/build.js";
import type { Conv, Depthwise, Norm } from "../nn/layers.js";
import { type Position, type Route, startOf } from "../nn/width.js";
import type { Activation } from "../ops/activation.js";
import { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import { TrainExec } from "./forward.js";
import type { Learner } from "./learner.js";
import type { Progress } from "./progress.js";
import type { Session } from "./session-node.js";

/** Steps in a row with NaN or infinity that end a run. */
const MAX_BAD = 3;

/** Tells that a step is left out, because of what `where` names. DivergedError when it is the third in a row. */
export function skipStep(session: Session, progress: Progress, step: number, where: string, advice: string): void {
  progress.bad++;
  const message = `step ${step}: NaN or infinity in ${where}`;
  if (progress.bad >= MAX_BAD) {
    const last = session.folder.saved("last");
    const kept = last ? `the last checkpoint is kept, ${last}` : "before its first checkpoint";
    throw new DivergedError(`${message}, ${MAX_BAD} steps in a row; training stopped, ${kept}. ${advice}`);
  }
  session.emit({ type: "warning", message: `${message}; the step is skipped` });
}

/**
 * The first layer whose output is not finite when the student sees `images` on one of the routes; null where all are. Walks the
 * network anew: for the rare step that went wrong. Running statistics do not survive it.
 */
export function firstNonfinite(learner: Learner, images: Tensor, routes: readonly Route[]): string | null {
  const { backend, net, weights } = learner;
  for (const route of routes) {
    const layer = backend.arena.scope(() => {
      const exec = new Watch(new Tape(backend, false), weights, { momentum: () => 0, route });
      exec.look(images, "the images");
      walkNetwork<Tensor>(net.steps, exec, images, startOf(route));
      return exec.found;
    });
    if (layer !== null) return `${layer} at width ${route}`;
  }
  return null;
}

class Watch extends TrainExec {
  found: string | null = null;

  look(x: Tensor, name: string): Tensor {
    const values = this.tape.backend.f32.subarray(x.at / 4, x.at / 4 + x.size);
    if (this.found === null && !values.every(Number.isFinite)) this.found = name;
    return x;
  }

  override conv(x: Tensor, layer: Conv, norm: Norm | null, act: Activation, at: Position): Tensor {
    return this.look(super.conv(x, layer, norm, act, at), layer.name);
  }

  override depthwise(x: Tensor, layer: Depthwise, norm: Norm, act: Activation, at: Position): Tensor {
    return this.look(super.depthwise(x, layer, norm, act, at), layer.name);
  }
}
