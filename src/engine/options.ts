/** Options that callers give by name. */
import { UsageError } from "../errors.js";

/** Refuses what would be ignored: a misspelt `topk` must not pass for the default. */
export function checkKeys(options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).filter((key) => !known.includes(key));
  if (unknown.length > 0) {
    throw new UsageError(`options: expected ${known.join(", ")}; there is no ${unknown.join(", ")}`);
  }
}
