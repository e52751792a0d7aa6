/** Residual sum of two tensors whose widths may differ: the shared prefix is added, the wider one passes the rest on. */
import { ShapeError } from "../errors.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** (N, H, W, Ca) + (N, H, W, Cb) → (N, H, W, max(Ca, Cb)) */
export function add(tape: Tape, a: Tensor, b: Tensor): Tensor {
  if (a.rows !== b.rows) throw new ShapeError(`add: expected images of one size, got ${a.shape} and ${b.shape}`);
  const y = tape.tensor(a.n, a.h, a.w, Math.max(a.c, b.c));
  const backend = tape.backend;
  backend.call({ op: "add", a: a.at, b: b.at, y: y.at, n: a.n, hw: a.h * a.w, ca: a.c, cb: b.c, act: 0 });
  tape.recordFor(y, (dy) => {
    for (const t of [a, b]) {
      tape.receive(t, (dx) =>
        backend.call({ op: "prefix", x: dy.at, y: dx, rows: t.rows, cx: y.c, cy: t.c, accumulate: 0 }),
      );
    }
  });
  return y;
}
