/** The budget knob: λ, what a multiply-add weighs against the gate's score. The gate picks argmax(score − λ·MAdds/widest MAdds). */
import type { CalibrationPoint } from "../io/model-file.js";

/** Added to the scores for a λ. Negative λ asks for more than the gate would spend. */
export function costBias(lambda: number, madds: readonly number[]): number[] {
  const widest = madds[madds.length - 1]!;
  return madds.map((cost) => (-lambda * cost) / widest);
}

/** λ for a budget of mean MAdds, from a table with λ ascending; null where even its cheapest entry is above the budget. */
export function lambdaFor(table: readonly CalibrationPoint[], madds: number): number | null {
  return table.find((p) => p.madds <= madds)?.lambda ?? null;
}
