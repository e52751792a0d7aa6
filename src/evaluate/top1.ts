/** The top-1 class of logits. */

/** Index of a row's largest logit, the first of equals; -1 where one is NaN. */
export function topClass(row: Float32Array): number {
  return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
}

/** 1 for each row of logits, [row][class], whose top class is its label's, else 0. */
export function rightRows(logits: Float32Array, labels: Int32Array): Uint8Array {
  const classes = logits.length / labels.length;
  return Uint8Array.from(labels, (label, i) => {
    return topClass(logits.subarray(i * classes, (i + 1) * classes)) === label ? 1 : 0;
  });
}
