/**
 * The folder of one training run:
 *
 *     args.yaml            what the run was told
 *     results.csv          one row per epoch; its header is the first row's keys
 *     metrics.jsonl        one line per logged step
 *     last.safetensors     the checkpoint from which the run goes on
 *     best.safetensors     the best weights so far; in the end the trained model, which is the last epoch's
 *     seconds.json         how long the run has taken, over all its sittings
 *     gate-set.safetensors what the gate learns from; see kept-gate-set-node.ts
 *
 * Its law: killed at any moment and resumed, a run's results.csv and metrics.jsonl have every row exactly once. Each
 * checkpoint records how many rows were written before it. Those are flushed before the checkpoint takes its place, so
 * none is missing; on resume whatever lies beyond them is cut away, so none is repeated.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { FormatError, StorageError, UsageError } from "../errors.js";
import { type Cell, csvCells, csvLine, csvRows } from "../io/csv.js";
import { AppendFile, readBytes, TEMPORARY_NAME, writeFileAtomic } from "../io/files-node.js";
import { FolderLock } from "../io/folder-lock-node.js";
import { encodeModel, type ModelFile } from "../io/model-file.js";
import { readModelFile } from "../io/model-file-node.js";

export interface EpochRecord {
  stage: string;
  epoch: number;
  [column: string]: Cell;
}

export interface StepRecord {
  stage: string;
  epoch: number;
  step: number;
  [key: string]: unknown;
}

/** Arguments that a resumed run may change because the result of a run that ends well does not depend on them. */
const FREE_ARGS = new Set(["output", "threads", "workers", "device", "recovery_interval", "max_broken"]);

const FILES = [
  "args.yaml",
  "results.csv",
  "metrics.jsonl",
  "last.safetensors",
  "seconds.json",
  "best.safetensors",
] as const;
const [ARGS, RESULTS, METRICS, LAST, SECONDS] = FILES;

/** What a checkpoint says of the logs that were written before it. */
interface Logged {
  results: number;
  metrics: number;
}

export class RunFolder {
  readonly path: string;
  /** `last.safetensors` as the resumed run finds it; undefined when there is none yet and training starts at the beginning. */
  readonly checkpoint: ModelFile | undefined;
  /** What the user should be told about the resumed run. */
  readonly warnings: readonly string[];
  readonly #lock: FolderLock;
  /** Whether the folder was not there before. */
  readonly #made: boolean;
  readonly #results: AppendFile;
  readonly #metrics: AppendFile;
  readonly #logged: Logged;
  /** Seconds of the sittings before this one, and when this one began. */
  readonly #before: number;
  readonly #began = performance.now();
  #columns: string[] | undefined;

  private constructor(path: string, lock: FolderLock, made: boolean, state: Opened) {
    this.path = path;
    this.#lock = lock;
    this.#made = made;
    this.checkpoint = state.checkpoint;
    this.warnings = state.warnings;
    this.#logged = state.logged;
    this.#columns = state.columns;
    this.#before = state.seconds;
    this.#results = new AppendFile(join(path, RESULTS));
    this.#metrics = new AppendFile(join(path, METRICS));
  }

  /**
   * Starts a run in a new or empty folder, or resumes the one that is there. `args` is plain data.
   * UsageError: a run is there and `resume` is not set, or the reverse; other arguments than the run had; another
   * process is at work in the folder.
   */
  static async open(path: string, args: object, { resume }: { resume: boolean }): Promise<RunFolder> {
    if (resume && !existsSync(join(path, ARGS))) throw nothingToResume(path);
    let made: boolean;
    try {
      made = (await mkdir(path, { recursive: true })) !== undefined;
    } catch (cause) {
      throw new StorageError(`Could not create folder ${path}: ${(cause as Error).message}`, { cause });
    }
    const lock = await FolderLock.acquire(path);
    try {
      return new RunFolder(path, lock, made, await (resume ? reopen(path, args) : create(path, args)));
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Seconds that a run's sittings took, up to its last checkpoint; 0 where it has none. */
  static async readSeconds(path: string): Promise<number> {
    const file = join(path, SECONDS);
    if (!existsSync(file)) return 0;
    try {
      return Number(JSON.parse(new TextDecoder().decode(await readBytes(file))));
    } catch (cause) {
      throw new FormatError(`${file} should hold a number: ${(cause as Error).message}`, { cause });
    }
  }

  /** The arguments with which the run in a folder was started. */
  static async readArgs(path: string): Promise<Record<string, unknown>> {
    const file = join(path, ARGS);
    if (!existsSync(file)) throw nothingToResume(path);
    const text = new TextDecoder().decode(await readBytes(file));
    let args: unknown;
    try {
      args = parse(text);
    } catch (cause) {
      throw new FormatError(`${file} is not YAML: ${(cause as Error).message}`, { cause });
    }
    if (typeof args === "object" && args !== null && !Array.isArray(args)) return args as Record<string, unknown>;
    throw new FormatError(
      `${file} should be a YAML mapping of arguments, it is ${JSON.stringify(args)?.slice(0, 80)}.`,
    );
  }

  /** How long the run has taken so far, over all its sittings; of one that was killed, up to its last checkpoint. */
  get seconds(): number {
    return this.#before + (performance.now() - this.#began) / 1000;
  }

  /** Logs a step. NaN and infinities, which JSON lacks, are written as strings. */
  step(record: StepRecord): void {
    const text = JSON.stringify(record, (_key, value) =>
      typeof value === "number" && !Number.isFinite(value) ? String(value) : value,
    );
    this.#metrics.append(`${text}\n`);
    this.#logged.metrics++;
  }

  /** Logs an epoch. Columns that the first row did not have are an error, absent ones stay empty. */
  epoch(record: EpochRecord): void {
    const columns = this.#columns ?? Object.keys(record);
    const unknown = Object.keys(record).filter((key) => !columns.includes(key));
    if (unknown.length > 0) {
      throw new UsageError(
        `${RESULTS} has the columns ${columns.join(", ")}; no room for ${unknown.join(", ")}. The first row must name every column, with null where it has no value.`,
      );
    }
    const row = csvLine(columns.map((column) => record[column] ?? null));
    this.#results.append(this.#columns ? row : csvLine(columns) + row);
    this.#columns = columns;
    this.#logged.results++;
  }

  /** The rows of results.csv so far, in order, by column. */
  async epochs(): Promise<Record<string, string>[]> {
    if (this.#columns === undefined) return [];
    this.#results.sync();
    return csvRows(new TextDecoder().decode(await readBytes(join(this.path, RESULTS))));
  }

  /**
   * Replaces a checkpoint as one whole. What was logged before this call is on the disk by then.
   * Save `best` before `last`: a run killed in between goes back to the former `last` and saves `best` again.
   */
  async save(name: "last" | "best", file: ModelFile): Promise<void> {
    if (!file.training) throw new UsageError(`A checkpoint of a run needs "training": stage, epoch and step.`);
    const bytes = encodeModel({ ...file, training: { ...file.training, logged: { ...this.#logged } } });
    this.#results.sync();
    this.#metrics.sync();
    await writeFileAtomic(join(this.path, `${name}.safetensors`), bytes);
    await writeFileAtomic(join(this.path, SECONDS), new TextEncoder().encode(`${this.seconds.toFixed(3)}\n`));
  }

  /** Where a checkpoint is; null where none was saved yet. */
  saved(name: "last" | "best"): string | null {
    const path = join(this.path, `${name}.safetensors`);
    return existsSync(path) ? path : null;
  }

  /** Flushes the logs and lets go of the folder. `discard` removes a run that never began, and the folder where it was made for it. */
  async close({ discard = false } = {}): Promise<void> {
    this.#results.sync();
    this.#metrics.sync();
    this.#results.close();
    this.#metrics.close();
    if (discard) for (const name of FILES) await rm(join(this.path, name), { force: true });
    await this.#lock.release();
    if (discard && this.#made) await rmdir(this.path).catch(() => {}); // someone has put something into it
  }
}

interface Opened {
  checkpoint: ModelFile | undefined;
  warnings: string[];
  logged: Logged;
  columns: string[] | undefined;
  seconds: number;
}

async function create(path: string, args: object): Promise<Opened> {
  const found = FILES.filter((name) => existsSync(join(path, name)));
  if (found.length > 0) {
    throw new UsageError(
      `${path} already holds a run (${found.join(", ")}). Go on with it by --resume, or choose another folder with --output.`,
    );
  }
  await writeFileAtomic(join(path, ARGS), new TextEncoder().encode(toYaml(args)));
  return { checkpoint: undefined, warnings: [], logged: { results: 0, metrics: 0 }, columns: undefined, seconds: 0 };
}

async function reopen(path: string, args: object): Promise<Opened> {
  const warnings = checkArgs(path, await RunFolder.readArgs(path), parse(toYaml(args)));
  for (const name of await readdir(path)) if (TEMPORARY_NAME.test(name)) await rm(join(path, name), { force: true });

  const checkpoint = existsSync(join(path, LAST)) ? await readModelFile(join(path, LAST)) : undefined;
  const logged = checkpoint ? loggedBefore(path, checkpoint) : { results: 0, metrics: 0 };
  const header = logged.results > 0 ? 1 : 0;
  const results = await keepLines(join(path, RESULTS), header + logged.results);
  const metrics = await keepLines(join(path, METRICS), logged.metrics);
  const kept = { results: Math.max(0, results.length - header), metrics: metrics.length };
  for (const key of ["results", "metrics"] as const) {
    if (kept[key] < logged[key]) {
      const file = key === "results" ? RESULTS : METRICS;
      warnings.push(
        `${file} should have ${logged[key]} rows and has ${kept[key]}: it was changed since the run stopped.`,
      );
    }
  }
  const columns = results[0] === undefined ? undefined : csvCells(results[0]);
  return { checkpoint, warnings, logged: kept, columns, seconds: await RunFolder.readSeconds(path) };
}

function loggedBefore(path: string, checkpoint: ModelFile): Logged {
  const { results, metrics } = (checkpoint.training?.logged ?? {}) as Record<string, unknown>;
  if (isCount(results) && isCount(metrics)) return { results, metrics };
  throw new FormatError(
    `${join(path, LAST)} is no checkpoint of a training run: it does not say how far the logs were.`,
  );
}

function isCount(x: unknown): x is number {
  return Number.isInteger(x) && (x as number) >= 0;
}

/** Cuts a text file behind its first `count` complete lines, and returns those. */
async function keepLines(path: string, count: number): Promise<string[]> {
  if (!existsSync(path)) return [];
  const bytes = await readBytes(path);
  let end = 0;
  for (let line = 0; line < count; line++) {
    const newline = bytes.indexOf(0x0a, end);
    if (newline < 0) break;
    end = newline + 1;
  }
  const kept = bytes.subarray(0, end);
  if (end < bytes.length) await writeFileAtomic(path, kept);
  return new TextDecoder().decode(kept).split("\n").slice(0, -1);
}

/** Returns warnings about arguments that may change, throws when others did. */
function checkArgs(path: string, stored: object, given: object): string[] {
  const before = flatten(stored);
  const now = flatten(given);
  const changed = [...new Set([...before.keys(), ...now.keys()])].filter((key) => before.get(key) !== now.get(key));
  const describe = (key: string) => `${key}: ${before.get(key) ?? "not set"} → ${now.get(key) ?? "not set"}`;
  const refused = changed.filter((key) => !FREE_ARGS.has(key));
  const unknown = refused.filter((key) => !before.has(key));
  if (unknown.length > 0 && unknown.length === refused.length) {
    const lines = unknown.map((key) => `  ${key}: ${now.get(key)}`).join("\n");
    throw new UsageError(
      `The run in ${path} was begun by a dsnet that did not know these settings:\n${lines}\n` +
        `Add them to its ${ARGS}, with the values that it is to go on with, or start a new run with another --output.`,
    );
  }
  if (refused.length > 0) {
    throw new UsageError(
      `The run in ${path} had other arguments:\n${refused.map((key) => `  ${describe(key)}`).join("\n")}\nResume with those of its ${ARGS}, or start a new run with another --output.`,
    );
  }
  if (!changed.includes("device")) return [];
  return [`${describe("device")}: on another device the last bits of the results may differ.`];
}

/** Nested plain data → dotted key → JSON of the leaf. */
function flatten(value: object, prefix = ""): Map<string, string> {
  const leaves = new Map<string, string>();
  for (const [key, item] of Object.entries(value)) {
    if (item !== null && typeof item === "object" && !Array.isArray(item)) {
      for (const [inner, leaf] of flatten(item, `${prefix}${key}.`)) leaves.set(inner, leaf);
    } else leaves.set(prefix + key, JSON.stringify(item));
  }
  return leaves;
}

function toYaml(args: object): string {
  return stringify(args, { aliasDuplicateObjects: false });
}

function nothingToResume(path: string): UsageError {
  return new UsageError(
    `There is no run to resume in ${path} (no ${ARGS}). Check the path, or start without --resume.`,
  );
}
