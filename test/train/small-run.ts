/** Trainings of about a second, each in a process of its own that can be killed and resumed; and what they leave behind. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { readSafetensors } from "../../src/io/safetensors.js";
import type { TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import type { TrainEvent } from "../../src/train/events.js";
import { idxImages, idxLabels, writeTree } from "../data/support.js";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

export const METHODS = ["probability", "gumbel"] as const;
export type Method = TrainConfig["gate"]["method"];

/** MNIST's four files with images of a pattern and four classes. */
export function writeImages(folder: string, train = 120, val = 20): string {
  const labels = (n: number) => idxLabels(Array.from({ length: n }, (_, i) => i % 4));
  return writeTree(folder, {
    "train-images-idx3-ubyte": idxImages(train, 28, 28),
    "train-labels-idx1-ubyte": labels(train),
    "t10k-images-idx3-ubyte": idxImages(val, 28, 28, train),
    "t10k-labels-idx1-ubyte": labels(val),
  });
}

/** Both stages, two epochs each, a checkpoint every third step. */
export function smallConfig(data: string, output: string, method: Method): TrainConfig {
  const config = defaultConfig("ds_mbnet_28");
  return {
    ...config,
    data,
    output,
    threads: 1,
    batch_size: 8,
    epochs: 2,
    warmup_epochs: 0,
    recalibration_batches: 5,
    recovery_interval: 3,
    gate: {
      ...config.gate,
      method,
      routing: "gate",
      sgs: method === "probability" ? "none" : "try_best",
      epochs: 2,
      holdout: 0.25,
    },
  };
}

export interface Ended {
  /** Null when a signal ended it. */
  code: number | null;
  stderr: string;
  events: TrainEvent[];
}

/** The command, as a user runs it; `watch` hears its events while it runs. */
export async function dsnet(
  args: readonly string[],
  watch: (event: TrainEvent, child: ChildProcess) => void = () => {},
): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const events: TrainEvent[] = [];
  createInterface(child.stdout).on("line", (line) => {
    if (!line.endsWith("}")) return; // cut off by a kill
    events.push(JSON.parse(line));
    watch(events.at(-1)!, child);
  });
  const code = await ended;
  return { code, stderr, events };
}

/** Arguments that start the run, or go on with what is in its folder. */
export function trainArgs(config: TrainConfig, flags: readonly string[] = []): string[] {
  if (existsSync(join(config.output, "args.yaml"))) {
    return ["train", "--resume", "--output", config.output, "--json", ...flags];
  }
  const file = `${config.output}.yaml`;
  writeFileSync(file, JSON.stringify(config)); // JSON is YAML
  return ["train", "--config", file, "--json", ...flags];
}

/** Runs to the end. */
export async function finish(config: TrainConfig, flags?: readonly string[]): Promise<Ended> {
  const ended = await dsnet(trainArgs(config, flags));
  if (ended.code !== 0) throw new Error(`the run in ${config.output} ended with ${ended.code}:\n${ended.stderr}`);
  return ended;
}

/**
 * Starts or resumes, and kills after `events` events and some milliseconds more, so that any instruction may be the last.
 * Returns the last event, undefined where the run ended before that.
 */
export async function killed(
  config: TrainConfig,
  events: number,
  milliseconds: number,
  flags?: readonly string[],
): Promise<TrainEvent | undefined> {
  let count = 0;
  const { code, stderr, ...run } = await dsnet(trainArgs(config, flags), async (_, child) => {
    if (++count !== events) return;
    await setTimeout(milliseconds);
    child.kill("SIGKILL");
  });
  if (code !== null && code !== 0) throw new Error(`the run in ${config.output} ended with ${code}:\n${stderr}`);
  return code === 0 ? undefined : run.events.at(-1);
}

/** Everything that must not depend on how a run got to its end: checksums by file, those of tensors apart. */
export function remains(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  const sum = (...parts: (string | Uint8Array)[]) =>
    parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
  for (const name of ["results.csv", "metrics.jsonl"]) found[name] = readFileSync(join(folder, name), "utf8");
  for (const name of ["best.safetensors", "last.safetensors"]) {
    const bytes = readFileSync(join(folder, name));
    const { tensors } = readSafetensors(bytes);
    found[`tensors of ${name}`] = sum(
      ...[...tensors].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([key, { data }]) => [key, data]),
    );
    found[name] = sum(bytes);
  }
  return found;
}
