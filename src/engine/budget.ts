/** The budget knob: what may be spent → the point of a model's table that spends as much of it as it can. */
import { UsageError } from "../errors.js";
import type { CalibrationPoint } from "../io/model-file.js";

/** What an image may cost in the mean, over images like those that the model's table was measured on: one of the three. */
export type Budget =
  | { madds: number }
  /** Milliseconds in the engine on this device, for images that come one at a time. */
  | { ms: number }
  /** As much as this width costs, spent where it is found worth while. */
  | { width: number };

/** Index of the first cost within the budget, the costliest where they descend; -1: there is none. */
export function firstWithin(costs: readonly number[], budget: number): number {
  return costs.findIndex((cost) => cost <= budget);
}

/** A point of a table, whatever turns its knob. */
type Point = Pick<CalibrationPoint, "madds" | "shares">;

/** What a table is reckoned with. */
export interface Costs {
  /** Widths that all gates may choose, and what each costs where they all choose it, gates included. */
  candidates: readonly number[];
  madds: readonly number[];
  /** Milliseconds of an image that takes each candidate, as the points' `shares` count them; asked for when the first budget needs it. */
  latency: () => readonly number[];
}

/** A table with descending cost, asked by budgets. */
export class BudgetTable<P extends Point> {
  readonly #points: readonly P[];
  readonly #costs: Costs;
  readonly #madds: readonly number[];
  #ms: readonly number[] | null = null;

  constructor(points: readonly P[], costs: Costs) {
    this.#points = points;
    this.#costs = costs;
    this.#madds = points.map(({ madds }) => madds);
  }

  /** The costliest point within the budget. UsageError: it cannot be reached. */
  within(budget: Budget): P {
    const entries = Object.entries(budget ?? {});
    const [kind, value] = entries[0] ?? [];
    if (entries.length === 1 && typeof value === "number") {
      if (kind === "madds") return this.#withinMadds(value);
      if (kind === "width") return this.#withinMadds(this.#maddsAt(value));
      if (kind === "ms") {
        this.#ms ??= this.#meanLatencies();
        return this.#within(value, this.#ms, (least, most) => {
          return `${value} ms cannot be reached; this model takes ${roundedUp(least)} to ${roundedUp(most)} ms here`;
        });
      }
    }
    const got = JSON.stringify(budget);
    throw new UsageError(`budget: expected one of { madds }, { ms }, { width }, a number; got ${got}`);
  }

  #withinMadds(madds: number): P {
    return this.#within(madds, this.#madds, (least, most) => {
      return `${madds} MAdds cannot be reached; this model spends ${Math.ceil(least)} to ${Math.ceil(most)}`;
    });
  }

  #within(budget: number, costs: readonly number[], refusal: (least: number, most: number) => string): P {
    const found = this.#points[firstWithin(costs, budget)];
    if (found !== undefined) return found;
    throw new UsageError(`budget: ${refusal(Math.min(...costs), Math.max(...costs))}`);
  }

  #maddsAt(width: number): number {
    const { candidates, madds } = this.#costs;
    const k = candidates.indexOf(width);
    if (k >= 0) return madds[k]!;
    const known = candidates.join(", ");
    throw new UsageError(`budget: width ${width} cannot be reached; this model chooses among ${known}`);
  }

  /** Mean milliseconds at each point: each candidate's by the share of images that took it. */
  #meanLatencies(): number[] {
    const latency = this.#costs.latency();
    return this.#points.map(({ shares }) => {
      if (shares === undefined) {
        throw new UsageError("budget: ms needs a newer table than this model has; dsnet calibrate measures it");
      }
      return shares.reduce((sum, share, k) => sum + share * latency[k]!, 0);
    });
  }
}

/** To three digits, so that what is said can be reached can be. */
function roundedUp(ms: number): string {
  const unit = 10 ** (Math.floor(Math.log10(ms)) - 2);
  return `${Number((Math.ceil(ms / unit - 1e-9) * unit).toPrecision(3))}`;
}
