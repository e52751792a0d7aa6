/** Residual sum of two tensors whose widths may differ: the shared prefix is added, the wider one passes the rest on. */
import { ShapeError } from "../errors.js";
import { type Activation, actCode } from "./activation.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** act(a + b): (N, H, W, Ca) + (N, H, W, Cb) → (N, H, W, max(Ca, Cb)). What went into the activation is added up again for the gradient. */
export function add(tape: Tape, a: Tensor, b: Tensor, act: Activation): Tensor {
  if (a.rows !== b.rows) throw new ShapeError(`add: expected images of one size, got ${a.shape} and ${b.shape}`);
  const y = tape.tensor(a.n, a.h, a.w, Math.max(a.c, b.c), a.needsGrad || b.needsGrad);
  const backend = tape.backend;
  const shape = { a: a.at, b: b.at, n: a.n, hw: a.h * a.w, ca: a.c, cb: b.c, act: actCode[act] };
  backend.call({ op: "add", ...shape, y: y.at });
  tape.recordFor(y, (dy) => {
    const [wide, narrow] = a.c >= b.c ? [a, b] : [b, a];
    const write = (dwide: number, dnarrow: number) => {
      const [da, db] = wide === a ? [dwide, dnarrow] : [dnarrow, dwide];
      backend.call({ op: "add_dx", ...shape, dy: dy.at, da, db });
    };
    // One pass writes both, the wider one's in the place of dy.
    const writeBoth = (dnarrow: number) => tape.receiveInPlace(wide, y, (dwide) => write(dwide, dnarrow));
    if (!wide.needsGrad) tape.receive(narrow, (dnarrow) => write(0, dnarrow));
    else if (!narrow.needsGrad) writeBoth(0);
    else tape.receive(narrow, writeBoth);
  });
  return y;
}
