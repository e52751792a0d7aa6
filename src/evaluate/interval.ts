/**
 * 95 % interval of a mean paired difference. Both nets saw the same images, so what counts is the spread of the
 * per-image difference, usually far smaller than that of either accuracy.
 *
 * The normal interval, with two invented images added first: one where the first net alone is right and one where the
 * second alone is. For differences of -1, 0, 1 that is the adjusted Wald interval of Bonett and Price (2012, "Adjusted
 * Wald confidence interval for a difference of binomial proportions based on paired data"): closed form, deterministic,
 * and unlike the plain Wald or a bootstrap it does not shrink to nothing when the nets never disagree.
 */
export interface Interval {
  difference: number;
  low: number;
  high: number;
}

const Z = 1.959963984540054;

/** `differences`: one a sample; 1: the first net alone is right, -1: the second alone. */
export function pairedInterval(differences: Float64Array): Interval {
  let sum = 0;
  let squares = 2;
  for (const d of differences) {
    sum += d;
    squares += d * d;
  }
  const n = differences.length + 2;
  const centre = sum / n;
  const half = Z * Math.sqrt(Math.max(0, squares / n - centre * centre) / n);
  return {
    difference: sum / differences.length,
    low: Math.max(-1, centre - half),
    high: Math.min(1, centre + half),
  };
}
