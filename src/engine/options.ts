/** Options that callers give by name. */
import { UsageError } from "../errors.js";

/** Refuses what would be ignored: a misspelt `topk` must not pass for the default. */
export function checkKeys(options: unknown, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) {
    throw new UsageError(`options: expected an object with any of ${known.join(", ")}, got ${options}`);
  }
  const unknown = Object.keys(options).filter((key) => !known.includes(key));
  if (unknown.length > 0) {
    throw new UsageError(`options: expected ${known.join(", ")}; there is no ${unknown.join(", ")}`);
  }
}
