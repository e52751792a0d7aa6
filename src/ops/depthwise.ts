/** Depthwise convolution at one prefix of the channels; weights are [kh][kw][C], so any C is a prefix. */
import { ShapeError } from "../errors.js";
import { outputSize } from "./conv.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

export interface DepthwiseWeight {
  w: number;
  /** Gradient, same layout: accumulated into. 0: none. */
  dw: number;
  cMax: number;
  kernel: number;
  stride: number;
  pad: number;
}

/**
 * - `x`: (N, H, W, C), C <= weight.cMax
 * - returns (N, OH, OW, C)
 *
 * N·OH·OW·kernel²·C MAdds forward, twice that backward.
 */
export function depthwise(tape: Tape, x: Tensor, weight: DepthwiseWeight): Tensor {
  const { kernel, stride, pad } = weight;
  if (x.c > weight.cMax) {
    throw new ShapeError(`depthwise: expected at most ${weight.cMax} channels, got x ${x.shape}`);
  }
  const oh = outputSize(x.h, kernel, stride, pad);
  const ow = outputSize(x.w, kernel, stride, pad);
  const y = tape.tensor(x.n, oh, ow, x.c, x.needsGrad || weight.dw !== 0);
  const shape = { n: x.n, h: x.h, width: x.w, c: x.c, kernel, stride, pad, oh, ow, cmax: weight.cMax };
  tape.backend.call({ op: "depthwise", ...shape, x: x.at, w: weight.w, y: y.at, scale: 0, shift: 0, act: 0 });
  tape.recordFor(y, (dy) => {
    if (weight.dw !== 0) tape.backend.call({ op: "depthwise_dw", ...shape, x: x.at, dy: dy.at, dw: weight.dw });
    tape.accumulate(x, (dx, accumulate) =>
      tape.backend.call({ op: "depthwise_dx", ...shape, dy: dy.at, w: weight.w, dx, accumulate }),
    );
  });
  return y;
}
