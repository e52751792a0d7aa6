/** Errors that say which file they are about. */
import { FormatError } from "../errors.js";

/** What `read` returns; a FormatError from it names `place`, where the bytes come from. */
export function naming<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof FormatError) throw new FormatError(`${place}: ${cause.message}`, { cause });
    throw cause;
  }
}
