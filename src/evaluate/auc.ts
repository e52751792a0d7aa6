/** Area under the ROC curve: the probability that a positive scores above a negative, a tie counting one half. */

/** Mann-Whitney's rank sum over mid-ranks. Null when all samples are of one kind. O(n log n). */
export function auc(scores: Float32Array, positive: Uint8Array): number | null {
  const n = scores.length;
  const order = Uint32Array.from(scores, (_, i) => i).sort((a, b) => scores[a]! - scores[b]!);
  let positives = 0;
  let rankSum = 0;
  for (let start = 0, end = 0; start < n; start = end) {
    let tied = 0;
    while (end < n && scores[order[end]!] === scores[order[start]!]) tied += positive[order[end++]!]!;
    positives += tied;
    rankSum += (tied * (start + 1 + end)) / 2;
  }
  const negatives = n - positives;
  if (positives === 0 || negatives === 0) return null;
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}
