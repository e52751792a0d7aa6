/** One line that shows how far a long task is: redrawn in place on a terminal, elsewhere a plain line now and then. */
import { truncate } from "./table.js";
import { formatCount, formatSeconds } from "./units.js";

/** The part of a Node stream that we need. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface ProgressState {
  /** Names the task. Another label starts another task, with its own clock. */
  label: string;
  /** Steps done and to do. */
  done: number;
  total: number;
  /** Images done so far, if the task counts any. */
  images?: number;
  /** Shown at the end of the line. */
  note?: string;
}

const REDRAW_MS = 100;
const PLAIN_LINE_MS = 10_000;
const BAR_CELLS = 24;

/** Terminals whose cursor stands behind a line of progress: whoever writes next takes it away first. */
const drawnOn = new WeakSet<Output>();

export class Progress {
  readonly #output: Output;
  readonly #now: () => number;
  #first: ProgressState | undefined;
  #startedAt = 0;
  #writtenAt = 0;

  /** `now` gives milliseconds. */
  constructor(output: Output, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#now = now;
  }

  update(state: ProgressState): void {
    const now = this.#now();
    const interactive = this.#output.isTTY === true;
    if (this.#first?.label !== state.label) {
      this.#first = state;
      this.#startedAt = now;
      // A terminal shows a new task at once; a log hears of it when it has lasted.
      this.#writtenAt = interactive ? Number.NEGATIVE_INFINITY : now;
    }
    if (now - this.#writtenAt < (interactive ? REDRAW_MS : PLAIN_LINE_MS)) return;
    this.#writtenAt = now;
    if (interactive) {
      const cells = (this.#output.columns ?? 80) - 3; // room for the ^C that a terminal echoes
      this.#output.write(`\r${truncate(this.#line(state, true), cells)}\x1b[K`);
      drawnOn.add(this.#output);
    } else {
      this.#output.write(`${this.#line(state, false)}\n`);
    }
  }

  /** Takes the line away, so that something else can be written. The next `update` draws it again. */
  clear(): void {
    if (drawnOn.delete(this.#output)) this.#output.write("\r\x1b[K");
    if (this.#output.isTTY) this.#writtenAt = Number.NEGATIVE_INFINITY;
  }

  #line(state: ProgressState, bar: boolean): string {
    const { label, done, total, images, note } = state;
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const parts = [label];
    if (bar) {
      const filled = Math.round(share * BAR_CELLS);
      parts.push("█".repeat(filled) + "░".repeat(BAR_CELLS - filled));
    }
    parts.push(`${String(Math.floor(share * 100)).padStart(3)} %`);
    // Rates since the first report: what was done before it (a resumed run) took none of this time.
    const seconds = (this.#now() - this.#startedAt) / 1000;
    const steps = done - this.#first!.done;
    if (seconds > 0 && steps > 0) {
      if (images !== undefined) parts.push(`${formatCount((images - (this.#first!.images ?? 0)) / seconds)} images/s`);
      const left = Math.ceil(((total - done) / steps) * seconds);
      if (done < total) parts.push(`ETA ${left < 60 ? `${left} s` : formatSeconds(left)}`);
    }
    if (note) parts.push(note);
    return parts.join("  ");
  }
}
