/** Means over seeds and what they decide. */

/** Student's t for a two-sided 95 % interval, by degrees of freedom from 1. */
const T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

export interface OverSeeds {
  mean: number;
  /** Standard deviation over the seeds; NaN for a single one. */
  deviation: number;
  /** Half of the mean's 95 % interval; NaN for a single seed. */
  half: number;
  seeds: number;
}

/** Null where there is no value. */
export function overSeeds(values: readonly (number | null | undefined)[]): OverSeeds | null {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length === 0) return null;
  const n = known.length;
  const mean = known.reduce((a, b) => a + b, 0) / n;
  const deviation = Math.sqrt(known.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1));
  return {
    mean,
    deviation,
    half: (T[Math.min(n - 2, T.length - 1)] ?? Number.NaN) * (deviation / Math.sqrt(n)),
    seeds: n,
  };
}
