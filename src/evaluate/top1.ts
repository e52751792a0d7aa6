/** 1 for each row of logits, [row][class], whose largest, the first of equals, is its label's; else 0, as where one is NaN. */
export function rightRows(logits: Float32Array, labels: Int32Array): Uint8Array {
  const classes = logits.length / labels.length;
  return Uint8Array.from(labels, (label, i) => {
    const row = logits.subarray(i * classes, (i + 1) * classes);
    return row.indexOf(row.reduce((a, b) => Math.max(a, b))) === label ? 1 : 0;
  });
}
