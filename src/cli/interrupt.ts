/** Ctrl-C for long work: the first asks it to stop in good order, the second ends the process at once. */

/** The part of `process` that we need. */
export interface SignalSource {
  on(name: "SIGINT" | "SIGTERM", listener: (name: "SIGINT" | "SIGTERM") => void): unknown;
  off(name: "SIGINT" | "SIGTERM", listener: (name: "SIGINT" | "SIGTERM") => void): unknown;
  exit(code: number): unknown;
}

/** What a shell reports for a process that the signal ended: 128 + its number. */
export const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs `work` with a signal that aborts on the first SIGINT or SIGTERM. `exitCode` is 0 unless one came.
 * `onFirst` tells the user that it was heard.
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onFirst: () => void,
  source: SignalSource = process,
): Promise<{ value: T; exitCode: number }> {
  const controller = new AbortController();
  let exitCode = 0;
  const listener = (name: "SIGINT" | "SIGTERM") => {
    if (controller.signal.aborted) {
      source.exit(EXIT_CODES[name]);
      return;
    }
    exitCode = EXIT_CODES[name];
    controller.abort();
    onFirst();
  };
  source.on("SIGINT", listener);
  source.on("SIGTERM", listener);
  try {
    return { value: await work(controller.signal), exitCode };
  } finally {
    source.off("SIGINT", listener);
    source.off("SIGTERM", listener);
  }
}
