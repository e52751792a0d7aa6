/** Measuring time: tasks take turns, so that whatever slows the machine down for a while slows all of them alike. */

export interface TimingOptions {
  rounds: number;
  /** A sample repeats its task until about this long has passed; 0: each sample is one call. */
  sampleMs?: number;
  onRound?: (done: number) => void;
}

/** Milliseconds of one call, [task][round]. A first round warms up and is not counted. */
export function timeInTurns(tasks: readonly (() => void)[], options: TimingOptions): Float64Array[] {
  const { rounds, sampleMs = 0, onRound } = options;
  const repeats = tasks.map((task) => {
    task();
    return repeatsFor(task, sampleMs);
  });
  const times = tasks.map(() => new Float64Array(rounds));
  for (let round = 0; round < rounds; round++) {
    tasks.forEach((task, i) => {
      times[i]![round] = clock(task, repeats[i]!);
    });
    onRound?.(round + 1);
  }
  return times;
}

/**
 * How often a task runs in `ms` and more: doubled until it does, as a browser's clock may not see a single run; the quicker of two
 * measurements counts, as what disturbs one is no work of the task.
 */
function repeatsFor(task: () => void, ms: number): number {
  let repeats = 1;
  const took = () => Math.min(clock(task, repeats), clock(task, repeats)) * repeats;
  while (ms > 0 && repeats < 1024 && took() < ms) repeats *= 2;
  return repeats;
}

function clock(task: () => void, repeats: number): number {
  const started = performance.now();
  for (let i = 0; i < repeats; i++) task();
  return (performance.now() - started) / repeats;
}

/** The value below which a share `q` (0..1) of the values lies, interpolated; the median at 0.5. */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const next = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return sorted[below]! + (at - below) * (next - sorted[below]!);
}
