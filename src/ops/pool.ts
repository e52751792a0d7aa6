/** Average and maximum pooling, whole images or windows. */
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

export interface PoolWindow {
  kind: "average" | "max";
  kernel: number;
  stride: number;
  pad: number;
  /** Windows may start inside and end outside the image; averages then divide by the pixels inside. */
  ceil: boolean;
}

export function pooledSize(size: number, p: PoolWindow): number {
  const steps = (size + 2 * p.pad - p.kernel) / p.stride;
  return (p.ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
}

/** (N, H, W, C) → (N, OH, OW, C) */
export function pool(tape: Tape, x: Tensor, window: PoolWindow): Tensor {
  return pooled(tape, x, pooledSize(x.h, window), pooledSize(x.w, window), window);
}

/** Mean over the pixels: (N, H, W, C) → (N, 1, 1, C). */
export function globalPool(tape: Tape, x: Tensor): Tensor {
  return pooled(tape, x, 1, 1, { kind: "average", kernel: 0, stride: 1, pad: 0, ceil: false });
}

function pooled(tape: Tape, x: Tensor, oh: number, ow: number, window: PoolWindow): Tensor {
  const y = tape.tensor(x.n, oh, ow, x.c, x.needsGrad);
  const { kernel, stride, pad } = window;
  const kind = window.kind === "max" ? 1 : 0;
  const shape = { n: x.n, h: x.h, width: x.w, c: x.c, kernel, stride, pad, oh, ow, kind };
  tape.backend.call({ op: "pool", ...shape, x: x.at, y: y.at });
  tape.recordFor(y, (dy) => {
    tape.accumulate(x, (dx, accumulate) =>
      tape.backend.call({ op: "pool_dx", ...shape, x: x.at, dy: dy.at, dx, accumulate }),
    );
  });
  return y;
}
