/** Softmax cross-entropy against labels (smoothed) or against a teacher's probabilities. */
import type { Tape } from "./tape.js";
import type { Tensor } from "./tensor.js";

/** `labels`: address of N int32; `probs`: address of N·C float32. */
export type Target = { labels: number; smoothing: number } | { probs: number };

/**
 * Seeds the gradient of `logits`, (N, 1, 1, C), with the mean loss's, and returns that mean. Costs O(N·C).
 */
export function crossEntropy(tape: Tape, logits: Tensor, target: Target): number {
  const losses = sampleLosses(tape, logits, target, 1 / logits.n);
  let sum = 0;
  for (const loss of losses) sum += loss;
  return sum / logits.n;
}

/** The loss of every sample; the gradient of their sum times `weight` goes to `logits`. */
function sampleLosses(tape: Tape, logits: Tensor, target: Target, weight: number): Float32Array {
  const { backend } = tape;
  const loss = backend.arena.alloc(logits.n * 4);
  const write = (dx: number) =>
    backend.call({
      op: "cross_entropy",
      x: logits.at,
      labels: "labels" in target ? target.labels : 0,
      probs: "probs" in target ? target.probs : 0,
      loss,
      dx,
      n: logits.n,
      c: logits.c,
      smoothing: "labels" in target ? target.smoothing : 0,
      weight,
    });
  if (logits.needsGrad) {
    tape.receive(logits, write);
  } else {
    const unused = backend.arena.alloc(logits.size * 4);
    write(unused);
    backend.arena.free(unused);
  }
  const result = backend.f32.slice(loss / 4, loss / 4 + logits.n);
  backend.arena.free(loss);
  return result;
}
