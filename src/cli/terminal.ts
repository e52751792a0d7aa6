/**
 * Where a verb's words go. Results to stdout; progress and warnings to stderr, so that a pipe carries results alone. With
 * `json`, stdout carries nothing but JSON: one value a line.
 */
import { type Output, Progress } from "./progress.js";
import { printable } from "./table.js";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Colour on a terminal only; FORCE_COLOR and NO_COLOR (https://no-color.org) outrank that, in this order. */
export function hasColour({ isTTY }: Output, { FORCE_COLOR, NO_COLOR, TERM }: Environment): boolean {
  if (FORCE_COLOR) return FORCE_COLOR !== "0" && FORCE_COLOR !== "false";
  if (NO_COLOR) return false;
  return isTTY === true && TERM !== "dumb";
}

const STYLES = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39] } as const;
export type Style = keyof typeof STYLES;

export interface TerminalOptions {
  json?: boolean | undefined;
  stdout?: Output;
  stderr?: Output;
  env?: Environment;
  /** Clock of the progress line, in milliseconds. */
  now?: () => number;
}

export class Terminal {
  readonly json: boolean;
  readonly #progress: Progress;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #env: Environment;

  constructor({
    json = false,
    stdout = process.stdout,
    stderr = process.stderr,
    env = process.env,
    now,
  }: TerminalOptions = {}) {
    this.json = json;
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#env = env;
    this.#progress = new Progress(stderr, now);
  }

  get progress(): Pick<Progress, "update"> {
    return this.#progress;
  }

  /** Styles text that goes to stdout. */
  paint(style: Style, text: string): string {
    return paint(style, text, this.#stdout, this.#env);
  }

  /** A result for people; with `json` nothing. */
  print(text: string): void {
    if (!this.json) this.#write(this.#stdout, text);
  }

  /** A result for programs; without `json` nothing. NaN and infinities, which JSON lacks, become strings. */
  emit(value: unknown): void {
    if (!this.json) return;
    const text = JSON.stringify(value, (_key, x) => (typeof x === "number" && !Number.isFinite(x) ? String(x) : x));
    this.#write(this.#stdout, text);
  }

  /** A remark that is no result. */
  note(text: string): void {
    this.#write(this.#stderr, visible(text));
  }

  warn(text: string): void {
    this.#write(this.#stderr, `${paint("yellow", "warning:", this.#stderr, this.#env)} ${visible(text)}`);
  }

  /** `error[ERR_USAGE]: message` */
  error(code: string | undefined, text: string): void {
    const head = code === undefined ? "error:" : `error[${code}]:`;
    this.#write(this.#stderr, `${paint("red", head, this.#stderr, this.#env)} ${visible(text)}`);
  }

  #write(stream: Output, text: string): void {
    this.#progress.clear();
    stream.write(`${text}\n`);
  }
}

function paint(style: Style, text: string, output: Output, env: Environment): string {
  const [on, off] = STYLES[style];
  return hasColour(output, env) ? `\x1b[${on}m${text}\x1b[${off}m` : text;
}

/** Messages quote what users and files gave. */
function visible(text: string): string {
  return text.split("\n").map(printable).join("\n");
}
