/** Softmax of single rows of logits or scores, in double and without overflow: for choices and losses over a few candidates or classes. */
type Row = Float32Array | Float64Array;

function highest(row: Row): number {
  let top = row[0]!;
  for (const x of row) if (x > top) top = x;
  return top;
}

function sumExp(row: Row, top: number): number {
  let sum = 0;
  for (const x of row) sum += Math.exp(x - top);
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

/** The highest softmax probability of a row: what a cascade calls its confidence. */
export function confidenceOf(row: Row): number {
  return 1 / sumExp(row, highest(row));
}

/** Turns the gradient of softmax rows of `count` values into that of the scores, in place. */
export function softmaxBackward(soft: Float64Array, gradient: Float64Array, count: number): void {
  for (let from = 0; from < soft.length; from += count) {
    let mean = 0;
    for (let k = from; k < from + count; k++) mean += soft[k]! * gradient[k]!;
    for (let k = from; k < from + count; k++) gradient[k] = soft[k]! * (gradient[k]! - mean);
  }
}
