/**
 * The tape: ops run forward at once and leave their backward behind; `backward` runs them in reverse. All tensors live in
 * the arena; wrap a step in `backend.arena.scope` and they are gone when it ends.
 */
import type { Backend } from "../backend/backend.js";
import { Tensor } from "./tensor.js";

export class Tape {
  readonly #steps: (() => void)[] = [];

  constructor(
    readonly backend: Backend,
    /** False: forward only, nothing is kept. */
    readonly recording = true,
  ) {}

  /** A new tensor with undefined content. */
  tensor(n: number, h: number, w: number, c: number, needsGrad = this.recording): Tensor {
    return new Tensor(this.backend.arena.alloc(n * h * w * c * 4), n, h, w, c, needsGrad);
  }

  record(backward: () => void): void {
    if (this.recording) this.#steps.push(backward);
  }

  /**
   * Leaves the backward of the op that made `y`. It is given y's gradient, whose memory serves for other gradients
   * afterwards, as long as it is in the caches; where y got no gradient nothing is done.
   */
  recordFor(y: Tensor, backward: (dy: Tensor) => void): void {
    this.record(() => {
      const dy = y.grad;
      if (dy === null) return;
      backward(dy);
      if (y.grad === dy) this.backend.arena.free(dy.at);
      y.grad = null;
    });
  }

  /** Adds to the gradient of `t`, with a kernel that can add to what is there: `write(address, 1)` must, (address, 0) not. */
  accumulate(t: Tensor, write: (dx: number, accumulate: number) => void): void {
    if (!t.needsGrad) return;
    if (t.grad !== null) write(t.grad.at, 1);
    else this.receive(t, (dx) => write(dx, 0));
  }

  /**
   * Adds to the gradient of `t`. `write` must fill the address it gets with this consumer's share; where another
   * consumer came first the share is written aside and added.
   */
  receive(t: Tensor, write: (dx: number) => void): void {
    if (!t.needsGrad) return;
    if (t.grad === null) {
      t.grad = this.tensor(t.n, t.h, t.w, t.c, false);
      write(t.grad.at);
      return;
    }
    const sum = t.grad.at;
    const share = this.tensor(t.n, t.h, t.w, t.c, false);
    write(share.at);
    this.backend.call({ op: "add", a: sum, b: share.at, y: sum, n: t.n, hw: t.h * t.w, ca: t.c, cb: t.c });
    this.backend.arena.free(share.at);
  }

  /**
   * The same for a kernel that may write over the gradient of its output, `y`, which is as large as `t`: where no other
   * consumer came first, that becomes the gradient of `t`.
   */
  receiveInPlace(t: Tensor, y: Tensor, write: (dx: number) => void): void {
    if (!t.needsGrad || t.grad !== null || y.grad === null) {
      this.receive(t, write);
      return;
    }
    t.grad = y.grad;
    y.grad = null;
    write(t.grad.at);
  }

  /** Runs the recorded steps in reverse, once. */
  backward(): void {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) step();
  }
}
