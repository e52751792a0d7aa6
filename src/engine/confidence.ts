/** The highest softmax probability of a row of logits: what a cascade calls its confidence. In double. */
export function confidenceOf(logits: Float32Array): number {
  let top = logits[0]!;
  for (const logit of logits) if (logit > top) top = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - top);
  return 1 / sum;
}
