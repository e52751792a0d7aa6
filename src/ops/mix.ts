/** Small ops of the masked walk, on (image, channel) factors rather than pixels: computed in JavaScript, in double. */
import { softmax, softmaxBackward } from "./softmax.js";
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** out[n][c] = Σ_k g[n][k] · table[k][c]: masks and mixed statistics from the gate's choice. g: (N, 1, 1, K). */
export function mix(tape: Tape, g: Tensor, table: readonly Float32Array[]): Tensor {
  const c = table[0]!.length;
  const out = tape.tensor(g.n, 1, 1, c, g.needsGrad);
  const { backend } = tape;
  const f32 = backend.f32;
  for (let n = 0; n < g.n; n++) {
    for (let j = 0; j < c; j++) {
      let sum = 0;
      for (let k = 0; k < g.c; k++) sum += f32[g.at / 4 + n * g.c + k]! * table[k]![j]!;
      f32[out.at / 4 + n * c + j] = sum;
    }
  }
  tape.recordFor(out, (dout) => {
    tape.receive(g, (dg) => {
      const view = backend.f32;
      for (let n = 0; n < g.n; n++) {
        for (let k = 0; k < g.c; k++) {
          let sum = 0;
          for (let j = 0; j < c; j++) sum += view[dout.at / 4 + n * c + j]! * table[k]![j]!;
          view[dg / 4 + n * g.c + k] = sum;
        }
      }
    });
  });
  return out;
}

/** The choice of a pair: out[n][i·K + k] = a[n][i] · b[n][k]; a, b: (N, 1, 1, K). */
export function joint(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const { backend } = tape;
  const count = b.c;
  const out = tape.tensor(a.n, 1, 1, a.c * count, a.needsGrad || b.needsGrad);
  const value = (t: Tensor, n: number, i: number) => backend.f32[t.at / 4 + n * t.c + i]!;
  for (let n = 0; n < a.n; n++) {
    for (let j = 0; j < out.c; j++) {
      backend.f32[out.at / 4 + n * out.c + j] = value(a, n, Math.floor(j / count)) * value(b, n, j % count);
    }
  }
  tape.recordFor(out, (dout) => {
    /** Σ over the other's entries of dout times the other. */
    const share = (t: Tensor, other: Tensor, at: (own: number, others: number) => number) =>
      tape.receive(t, (dt) => {
        for (let n = 0; n < t.n; n++) {
          for (let own = 0; own < t.c; own++) {
            let sum = 0;
            for (let o = 0; o < other.c; o++) sum += value(dout, n, at(own, o)) * value(other, n, o);
            backend.f32[dt / 4 + n * t.c + own] = sum;
          }
        }
      });
    share(a, b, (i, k) => i * count + k);
    share(b, a, (k, i) => i * count + k);
  });
  return out;
}

/**
 * A norm in evaluation mode as factors per image: scale = gamma/√(var + eps), shift = beta − mean·scale.
 * mean, var: (N, 1, 1, C); gamma, beta: C values, frozen.
 */
export function normFactors(
  tape: Tape,
  mean: Tensor,
  variance: Tensor,
  gamma: Float32Array,
  beta: Float32Array,
  eps: number,
): { scale: Tensor; shift: Tensor } {
  const { backend } = tape;
  const { n, c } = mean;
  const scale = tape.tensor(n, 1, 1, c, mean.needsGrad);
  const shift = tape.tensor(n, 1, 1, c, mean.needsGrad);
  const f32 = backend.f32;
  for (let i = 0; i < n * c; i++) {
    const s = gamma[i % c]! / Math.sqrt(f32[variance.at / 4 + i]! + eps);
    f32[scale.at / 4 + i] = s;
    f32[shift.at / 4 + i] = beta[i % c]! - f32[mean.at / 4 + i]! * s;
  }
  tape.record(() => {
    const dscale = scale.grad;
    const dshift = shift.grad;
    if (dscale === null || dshift === null) return;
    tape.receive(mean, (dmean) => {
      const view = backend.f32;
      for (let i = 0; i < n * c; i++) view[dmean / 4 + i] = -view[dshift.at / 4 + i]! * view[scale.at / 4 + i]!;
    });
    tape.receive(variance, (dvar) => {
      const view = backend.f32;
      for (let i = 0; i < n * c; i++) {
        const ds = view[dscale.at / 4 + i]! - view[dshift.at / 4 + i]! * view[mean.at / 4 + i]!;
        // ds/dvar = −gamma/2 · (var + eps)^(−3/2) = −scale / (2 (var + eps))
        view[dvar / 4 + i] = (-ds * view[scale.at / 4 + i]!) / (2 * (view[variance.at / 4 + i]! + eps));
      }
    });
  });
  return { scale, shift };
}

/**
 * Straight-through Gumbel: forward one-hot(argmax(scores + noise)), backward the gradient of softmax(scores + noise).
 * scores: (N, 1, 1, K); `noise`: N·K values. Returns the choice as a tensor, and the softmax.
 */
export function straightThrough(
  tape: Tape,
  scores: Tensor,
  noise: Float32Array,
): { choice: Tensor; soft: Float64Array; picked: Int32Array } {
  const { backend } = tape;
  const { n, c: count } = scores;
  const choice = tape.tensor(n, 1, 1, count, scores.needsGrad);
  const soft = new Float64Array(n * count);
  const picked = new Int32Array(n);
  const f32 = backend.f32;
  for (let i = 0; i < n; i++) {
    const noisy = new Float64Array(count);
    let best = 0;
    for (let k = 0; k < count; k++) {
      noisy[k] = f32[scores.at / 4 + i * count + k]! + noise[i * count + k]!;
      if (noisy[k]! > noisy[best]!) best = k;
    }
    soft.set(softmax(noisy), i * count);
    for (let k = 0; k < count; k++) f32[choice.at / 4 + i * count + k] = k === best ? 1 : 0;
    picked[i] = best;
  }
  tape.record(() => {
    const dchoice = choice.grad;
    if (dchoice === null) return;
    tape.receive(scores, (dscores) => {
      const gradient = Float64Array.from(backend.f32.subarray(dchoice.at / 4, dchoice.at / 4 + n * count));
      softmaxBackward(soft, gradient, count);
      backend.f32.set(gradient, dscores / 4);
    });
  });
  return { choice, soft, picked };
}
