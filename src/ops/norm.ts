/** Batch norm on the batch's own statistics, and group norm; each with the activation that follows. */
import { type Activation, actCode } from "./activation.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** Addresses of the shared scale and shift and of their gradients (0: frozen). */
export interface NormWeight {
  gamma: number;
  beta: number;
  dgamma: number;
  dbeta: number;
  eps: number;
}

/** Where a width's running statistics lie; they are moved by `momentum` towards the batch's. */
export interface RunningStats {
  mean: number;
  var: number;
  momentum: number;
}

/**
 * y = act(gamma·(x − mean)/√(var + eps) + beta) over the rows of x, (N, H, W, C). Updates `running` (unbiased variance)
 * where given.
 */
export function batchNorm(
  tape: Tape,
  x: Tensor,
  weight: NormWeight,
  running: RunningStats | null,
  act: Activation,
): Tensor {
  const y = tape.tensor(x.n, x.h, x.w, x.c);
  const mean = tape.backend.arena.alloc(x.c * 4);
  const inv = tape.backend.arena.alloc(x.c * 4);
  const shape = { rows: x.rows, c: x.c, act: actCode[act] };
  tape.backend.call({
    op: "batch_norm",
    ...shape,
    x: x.at,
    y: y.at,
    gamma: weight.gamma,
    beta: weight.beta,
    mean,
    inv,
    running_mean: running?.mean ?? 0,
    running_var: running?.var ?? 0,
    batch_var: 0,
    eps: weight.eps,
    momentum: running?.momentum ?? 0,
  });
  tape.recordFor(y, (dy) => {
    const share = { dy: dy.at, gamma: weight.gamma, beta: weight.beta, dgamma: weight.dgamma, dbeta: weight.dbeta };
    receive(tape, x, y, (dx) => tape.backend.call({ op: "batch_norm_dx", ...shape, ...share, x: x.at, dx, mean, inv }));
  });
  return y;
}

/** Channels that share a group norm's statistics, whatever the width. */
export const GROUP_CHANNELS = 8;

/** Group norm with fixed channels per group, so that a group is the same at every width. Statistics are each image's own. */
export function groupNorm(tape: Tape, x: Tensor, weight: NormWeight, act: Activation): Tensor {
  const y = tape.tensor(x.n, x.h, x.w, x.c);
  const groups = Math.ceil(x.c / GROUP_CHANNELS);
  const mean = tape.backend.arena.alloc(x.n * groups * 4);
  const inv = tape.backend.arena.alloc(x.n * groups * 4);
  const shape = { n: x.n, hw: x.h * x.w, c: x.c, group: GROUP_CHANNELS, act: actCode[act] };
  const { gamma, beta, dgamma, dbeta, eps } = weight;
  tape.backend.call({ op: "group_norm", ...shape, x: x.at, y: y.at, gamma, beta, mean, inv, eps });
  tape.recordFor(y, (dy) => {
    receive(tape, x, y, (dx) =>
      tape.backend.call({
        op: "group_norm_dx",
        ...shape,
        x: x.at,
        dy: dy.at,
        dx,
        gamma,
        beta,
        mean,
        inv,
        dgamma,
        dbeta,
      }),
    );
  });
  return y;
}

/** The input's gradient, or with address 0 that of gamma and beta alone, where the input needs none. */
function receive(tape: Tape, x: Tensor, y: Tensor, write: (dx: number) => void): void {
  if (x.needsGrad) tape.receiveInPlace(x, y, write);
  else write(0);
}
