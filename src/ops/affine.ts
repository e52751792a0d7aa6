/** y = act(scale·x + shift) per image and channel: activations, the attention's multiplication, masks, mixed norms. */
import { ShapeError } from "../errors.js";
import { type Activation, actCode } from "./activation.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/**
 * - `x`: (N, H, W, C)
 * - `scale`, `shift`: (N, 1, 1, C) tensors or null (1 and 0); they receive gradients too
 * - returns (N, H, W, C)
 */
export function affine(tape: Tape, x: Tensor, scale: Tensor | null, shift: Tensor | null, act: Activation): Tensor {
  for (const factor of [scale, shift]) {
    if (factor !== null && (factor.n !== x.n || factor.c !== x.c || factor.h * factor.w !== 1)) {
      throw new ShapeError(`affine: expected factors (${x.n}, 1, 1, ${x.c}) for x ${x.shape}, got ${factor.shape}`);
    }
  }
  const y = tape.tensor(x.n, x.h, x.w, x.c);
  const shape = {
    n: x.n,
    hw: x.h * x.w,
    c: x.c,
    per_image: 1,
    act: actCode[act],
    scale: scale?.at ?? 0,
    shift: shift?.at ?? 0,
  };
  const backend = tape.backend;
  backend.call({ op: "affine", ...shape, x: x.at, y: y.at });
  tape.recordFor(y, (dy) => {
    const back = { op: "affine_dx", ...shape, x: x.at, dy: dy.at, dx: 0, dscale: 0, dshift: 0 } as const;
    if (scale !== null) tape.receive(scale, (dscale) => backend.call({ ...back, dscale }));
    if (shift !== null) tape.receive(shift, (dshift) => backend.call({ ...back, dshift }));
    tape.receiveInPlace(x, y, (dx) => backend.call({ ...back, dx }));
  });
  return y;
}
