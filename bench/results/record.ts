/**
 * The committed record of some runs: a folder of two small tables, from which docs/RESULTS.md is made.
 *
 *     runs.csv       one row a run: how it was made, and what it took
 *     results.csv    one row a figure of a run
 *     epochs.csv     of a training, where its folder was there: its results.csv, a row an epoch
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { flagOf, leaves, settingAt, typed } from "../../src/cli/schema.js";
import type { Evaluation } from "../../src/evaluate/evaluate.js";
import type { Interval } from "../../src/evaluate/interval.js";
import { rowName } from "../../src/evaluate/table.js";
import { csvLine, csvRows } from "../../src/io/csv.js";
import { writeFileAtomic } from "../../src/io/files-node.js";
import type { TrainConfig } from "../../src/train/config.js";

export interface Run {
  run: string;
  seed: number;
  /** Of all its settings but those that change no bit of the result: a run of another recipe is another run. */
  settings: string;
  seconds: number;
  /** Of the code that wrote the row, `+` where the working tree had changes. */
  commit: string;
  kernels: string;
  command: string;
}

/** Which images a figure is of. */
export type Images = "validation" | "unused" | "held-out" | "training";

export interface Figure {
  run: string;
  seed: number;
  images: Images;
  /** A row of the honest table (`width 0`, `dynamic`, ...), a difference (`dynamic - envelope`), or another fact by name. */
  what: string;
  /** Mean multiply-adds of an image; null where the figure has none. */
  madds: number | null;
  /** Accuracies and their differences are shares. Null: not available. */
  value: number | null;
  /** 95 % interval, paired for differences. */
  low: number | null;
  high: number | null;
  /** Images. */
  n: number;
}

/** Whether it is a numbered width's accuracy. */
export function isWidth({ what }: Pick<Figure, "what">): boolean {
  return /^width \d+$/.test(what);
}

/** What a training is reported by: its supernet's figures on validation images, the widths among them narrowest first. */
export function reported(figures: readonly Figure[]): Figure[] {
  return figures.filter(({ run, images }) => run === "supernet" && images === "validation");
}

export interface Record {
  runs: Run[];
  figures: Figure[];
  epochs: { [column: string]: string }[];
}

const RUN_COLUMNS = ["run", "seed", "settings", "seconds", "commit", "kernels", "command"] as const;
const FIGURE_COLUMNS = ["run", "seed", "images", "what", "madds", "value", "low", "high", "n"] as const;

/** Empty where there is no such folder. */
export function readRecord(folder: string): Record {
  const rows = (name: string) =>
    existsSync(join(folder, name)) ? csvRows(readFileSync(join(folder, name), "utf8")) : [];
  const number = (cell: string | undefined) => (cell === undefined || cell === "" ? null : Number(cell));
  return {
    runs: rows("runs.csv").map((row) => ({
      ...(row as unknown as Run),
      seed: Number(row.seed),
      seconds: Number(row.seconds),
    })),
    figures: rows("results.csv").map((row) => ({
      ...(row as unknown as Figure),
      seed: Number(row.seed),
      madds: number(row.madds),
      value: number(row.value),
      low: number(row.low),
      high: number(row.high),
      n: Number(row.n),
    })),
    epochs: rows("epochs.csv"),
  };
}

/** The record with a run and its figures, in place of what it had of that run and seed. */
export async function addToRecord(folder: string, run: Run, figures: readonly Figure[]): Promise<void> {
  const before = readRecord(folder);
  const other = (row: { run: string; seed: number }) => row.run !== run.run || row.seed !== run.seed;
  const runs = [...before.runs.filter(other), run];
  const all = [...before.figures.filter(other), ...figures];
  mkdirSync(folder, { recursive: true });
  const write = (name: string, lines: string[]) =>
    writeFileAtomic(join(folder, name), new TextEncoder().encode(lines.join("")));
  // A run counts as recorded once it is in runs.csv: that comes last.
  await write("results.csv", [
    csvLine(FIGURE_COLUMNS),
    ...all.map((row) => csvLine(FIGURE_COLUMNS.map((column) => short(row[column])))),
  ]);
  await write("runs.csv", [
    csvLine(RUN_COLUMNS),
    ...runs.map((row) => csvLine(RUN_COLUMNS.map((column) => short(row[column])))),
  ]);
}

/** Six digits are more than any interval leaves; MAdds are whole. */
function short(cell: number | string | null): number | string | null {
  return typeof cell !== "number" ? cell : Number(cell.toPrecision(cell > 1000 ? 12 : 6));
}

/** The honest table as figures. */
export function figuresOf(e: Evaluation, about: Pick<Figure, "run" | "seed" | "images">): Figure[] {
  const figure = (what: string, madds: number | null, value: number | null, interval?: Interval): Figure => ({
    ...about,
    what,
    madds: madds === null ? null : Math.round(madds),
    value,
    low: interval?.low ?? null,
    high: interval?.high ?? null,
    n: e.samples,
  });
  const rows = e.rows.map((row) =>
    figure(row.kind === "envelope" ? "envelope" : rowName(row), row.madds, row.accuracy),
  );
  if (e.dynamic === null) return rows;
  const { minusEnvelope, minusWidest, gapRecovered, auc } = e.dynamic;
  return [
    ...rows,
    figure("dynamic - envelope", null, minusEnvelope.difference, minusEnvelope),
    figure("dynamic - widest", null, minusWidest.difference, minusWidest),
    figure("gap recovered", null, gapRecovered),
    figure("gate AUC", null, auc.gate ?? null),
    figure("confidence AUC", null, auc.confidence),
  ];
}

/** Settings that say where and on what a run computes, not what. */
const PLACE = new Set(["data", "output", "device", "threads", "workers", "init"]);

/** Eight digits that change with any setting that may change a bit. */
export function settingsHash(config: TrainConfig): string {
  const settled = [...leaves.keys()].filter((path) => !PLACE.has(path)).map((path) => [path, settingAt(config, path)]);
  return createHash("sha256").update(JSON.stringify(settled)).digest("hex").slice(0, 8);
}

/** `--gate.stage 1` for every setting in which a configuration differs from its recipe's. */
export function flagsFrom(recipe: TrainConfig, config: TrainConfig): string[] {
  return [...leaves.keys()].flatMap((path) => {
    const value = settingAt(config, path);
    if (JSON.stringify(value) === JSON.stringify(settingAt(recipe, path))) return [];
    const text = typed(value);
    return [flagOf(path), text.startsWith("/") ? relative(process.cwd(), text) : text];
  });
}

/** What a figure depends on. */
const PRODUCING = ["src", "kernels", "recipes", "bench/results"];

/** What `git` calls the code that runs. */
export function commitNow(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const changed = git("status", "--porcelain", "--untracked-files=no", ...PRODUCING).trim() !== "";
    return git("rev-parse", "--short=10", "HEAD").trim() + (changed ? "+" : "");
  } catch {
    return "unknown";
  }
}
