/** Softmax of single rows of logits or scores, in double and without overflow: for choices and losses over a few candidates or classes. */
type Row = Float32Array | Float64Array;

function highest(row: Row, from = 0, count = row.length): number {
  let top = row[from]!;
  for (let i = from + 1; i < from + count; i++) if (row[i]! > top) top = row[i]!;
  return top;
}

function sumExp(row: Row, top: number, from = 0, count = row.length): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += Math.exp(row[i]! - top);
  return sum;
}

export function softmax(row: Row): Float64Array {
  const top = highest(row);
  const sum = sumExp(row, top);
  const soft = new Float64Array(row.length);
  for (let k = 0; k < row.length; k++) soft[k] = Math.exp(row[k]! - top) / sum;
  return soft;
}

/** log Σ exp: the cross-entropy of class y is this minus row[y]. */
export function logSumExp(row: Row): number {
  const top = highest(row);
  return top + Math.log(sumExp(row, top));
}

/** The highest softmax probability of a row, `count` values from `from` on: what a cascade calls its confidence. */
export function confidenceOf(row: Row, from = 0, count = row.length): number {
  return 1 / sumExp(row, highest(row, from, count), from, count);
}

/** Turns the gradient of softmax rows of `count` values into that of the scores, in place. */
export function softmaxBackward(soft: Float64Array, gradient: Float64Array, count: number): void {
  for (let from = 0; from < soft.length; from += count) {
    let mean = 0;
    for (let k = from; k < from + count; k++) mean += soft[k]! * gradient[k]!;
    for (let k = from; k < from + count; k++) gradient[k] = soft[k]! * (gradient[k]! - mean);
  }
}
