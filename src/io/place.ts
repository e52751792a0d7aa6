/** Errors that say which file they are about. */
import { FormatError } from "../errors.js";

/** What `read` returns; a FormatError from it names `place`, where the bytes come from. */
export function naming<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw named(place, cause);
  }
}

/** The same of what takes its time. */
export async function namingLater<T>(place: string, read: Promise<T>): Promise<T> {
  try {
    return await read;
  } catch (cause) {
    throw named(place, cause);
  }
}

function named(place: string, cause: unknown): unknown {
  return cause instanceof FormatError ? new FormatError(`${place}: ${cause.message}`, { cause }) : cause;
}
