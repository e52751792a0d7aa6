/** Convolution at one (cin, cout) prefix of a shared, panel-packed weight. Linear layers are 1x1 on 1x1 images. */
import { ShapeError } from "../errors.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** Addresses and full size of a weight; an address of 0 is absent. */
export interface ConvWeight {
  /** wp[o / 16][kh][kw][i][o % 16], see kernels/dsn.h. */
  w: number;
  /** Gradient, same layout: accumulated into. */
  dw: number;
  /** The transposed weight (`OP_TRANSPOSE`), needed for the gradient of the input. */
  wt: number;
  bias: number;
  dbias: number;
  cinMax: number;
  coutMax: number;
  kernel: number;
  stride: number;
  pad: number;
}

/** Output size of a convolution or pool. */
export function outputSize(size: number, kernel: number, stride: number, pad: number): number {
  return Math.floor((size + 2 * pad - kernel) / stride) + 1;
}

/** Padding on all sides, as the published code has it. */
export function samePadding(kernel: number, stride: number): number {
  return Math.floor((stride - 1 + kernel - 1) / 2);
}

/**
 * - `x`: (N, H, W, cin), cin <= weight.cinMax
 * - returns (N, OH, OW, cout), cout <= weight.coutMax
 *
 * N·OH·OW·kernel²·cin·cout MAdds forward, twice that backward. No copy of the weight.
 */
export function conv(tape: Tape, x: Tensor, weight: ConvWeight, cout: number): Tensor {
  const { kernel, stride, pad } = weight;
  if (x.c > weight.cinMax || cout > weight.coutMax) {
    throw new ShapeError(
      `conv: expected at most ${weight.cinMax} input and ${weight.coutMax} output channels, got x ${x.shape} and ${cout} outputs`,
    );
  }
  const oh = outputSize(x.h, kernel, stride, pad);
  const ow = outputSize(x.w, kernel, stride, pad);
  const y = tape.tensor(x.n, oh, ow, cout, x.needsGrad || weight.dw !== 0);
  const shape = { n: x.n, h: x.h, width: x.w, cin: x.c, cout, kernel, stride, pad, oh, ow };
  tape.backend.call({
    op: "conv",
    ...shape,
    x: x.at,
    w: weight.w,
    y: y.at,
    scale: 0,
    shift: weight.bias,
    cin_max: weight.cinMax,
    act: 0,
  });
  tape.recordFor(y, (dy) => {
    if (weight.dw !== 0) {
      tape.backend.call({ op: "conv_dw", ...shape, x: x.at, dy: dy.at, dw: weight.dw, cin_max: weight.cinMax });
    }
    if (weight.dbias !== 0) {
      tape.backend.call({ op: "column_sum", x: dy.at, y: weight.dbias, rows: dy.rows, c: cout });
    }
    tape.accumulate(x, (dx, accumulate) =>
      tape.backend.call({
        op: "conv_dx",
        ...shape,
        dy: dy.at,
        wt: weight.wt,
        dx,
        cout_max: weight.coutMax,
        accumulate,
      }),
    );
  });
  return y;
}
