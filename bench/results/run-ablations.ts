/**
 * Runs the ablations with a recipe and records them, as many runs at once as there are cores, each on one thread: the bits are the same
 * for any, and together they get more done than one run on all. About an hour for a seed on 2 cores:
 *
 *     npm run build && node dist/bench/results/run-ablations.js [--seeds 0,1,2] [--recipe recipes/reduced.yaml]
 *         [--data ../shared/data/cifar10-jpeg.tar.gz] [--runs runs/ablations] [--record results/ablations] [--jobs 2]
 *
 * What a run prints is in RUNS/NAME-SEED-SETTINGS.log. Ctrl-C stops it in good order; the same command goes on: what is recorded is skipped, what
 * was begun is resumed. A recorded supernet whose folder is gone is trained again where another run starts from it.
 *
 * Two sets of images judge every run. `unused`: training images that the recipe's subset left out, which neither stage has seen; what
 * becomes a default is chosen by them. `validation`: for the table alone.
 */
import "../plain-errors.js";
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadConfig } from "../../src/cli/config.js";
import { flagOf } from "../../src/cli/schema.js";
import { formatSeconds } from "../../src/cli/units.js";
import { type Dataset, sample, subset } from "../../src/data/dataset.js";
import { UsageError } from "../../src/errors.js";
import type { Evaluation } from "../../src/evaluate/evaluate.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import type { TrainConfig } from "../../src/train/config.js";
import { GATE_SET } from "../../src/train/kept-gate-set-node.js";
import { RunFolder } from "../../src/train/run-folder-node.js";
import { val } from "../../src/train/val-node.js";
import { BASE, type PlannedRun, plannedRuns } from "./ablations.js";
import { addToRecord, commitNow, figuresOf, type Run, readRecord, settingsHash } from "./record.js";

const { values } = parseArgs({
  options: {
    recipe: { type: "string", default: "recipes/reduced.yaml" },
    data: { type: "string", default: "../shared/data/cifar10-jpeg.tar.gz" },
    seeds: { type: "string", default: "0,1,2" },
    runs: { type: "string", default: "runs/ablations" },
    record: { type: "string", default: "results/ablations" },
    jobs: { type: "string", default: String(availableParallelism()) },
  },
});

interface Task extends PlannedRun {
  seed: number;
  /** Its name says what settings the run has: other ones get another folder. */
  output: string;
  flags: Record<string, string>;
  config: TrainConfig;
  hash: string;
}

function taskOf(run: PlannedRun, seed: number, { epochs }: TrainConfig): Task {
  const flags: Record<string, string> = { data: values.data, seed: String(seed), ...run.settings };
  const config = loadConfig({ file: values.recipe, flags });
  // What starts from the supernet has no epochs of stage I of its own, yet depends on them.
  const hash = settingsHash({ ...config, epochs });
  const output = join(values.runs, `${run.name}-${seed}-${hash}`);
  return { ...run, seed, output, flags, config, hash };
}

/** A task's command line, from its beginning. */
function commandOf({ flags, output, from, seed }: Task): string[] {
  const all = { ...flags, output, ...(from && { init: join(named(from, seed).output, "best.safetensors") }) };
  return ["train", "--config", values.recipe, ...Object.entries(all).flatMap(([path, x]) => [flagOf(path), x])];
}

/** Up to as many images as validation has, of those that a run's subset left out; null where there are none. */
function unused(train: Dataset, count: number, { subset: used, seed }: TrainConfig): Dataset | null {
  const rest = used === null ? 0 : Math.min(count, train.length - used);
  if (rest <= 0) return null;
  const drawn = sample(train, used! + rest, seed); // its first ones are the run's
  return subset(
    drawn,
    Array.from({ length: rest }, (_, i) => used! + i),
  );
}

const children = new Set<ChildProcess>();
let stopped = false;

/** `dsnet` with these arguments and its output in a file; its exit code. A group of its own: it hears Ctrl-C from here, once. */
function dsnet(args: readonly string[], log: string): Promise<number> {
  const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
  const file = openSync(log, "a");
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", file, file], detached: true });
  closeSync(file);
  children.add(child);
  return new Promise((resolve) =>
    child.on("exit", (code) => {
      children.delete(child);
      resolve(code ?? 1);
    }),
  );
}

/** What the recipe's own gate learnt from serves the others on the same supernet: a run that needs another set makes its own. */
async function shareGateSet({ name, output }: Task, first: Task): Promise<void> {
  const base = join(first.output, GATE_SET);
  const own = join(output, GATE_SET);
  if (name === BASE || existsSync(own) || !existsSync(base)) return;
  await mkdir(output, { recursive: true });
  await copyFile(base, own);
}

async function record(task: Task): Promise<void> {
  const { name, seed, output, config, hash } = task;
  const model = join(output, "best.safetensors");
  const file = await readModelFile(model);
  const about = { run: name, seed };
  const figures = figuresOf(file.results as Evaluation, { ...about, images: "validation" });
  if (config.subset !== null) {
    const split = ({ train, val }: { train: Dataset; val: Dataset }) => {
      const images = unused(train, val.length, config);
      if (images === null)
        throw new UsageError(`${values.recipe}: expected a subset that leaves training images unused`);
      return images;
    };
    const evaluation = await val(model, { data: values.data, split, threads: 1 });
    figures.push(...figuresOf(evaluation, { ...about, images: "unused" }));
  }
  await addToRecord(
    values.record,
    {
      ...about,
      settings: hash,
      seconds: await RunFolder.readSeconds(output),
      commit: commitNow(),
      kernels: file.kernelBuild ?? "",
      command: `dsnet ${commandOf(task).join(" ")}`,
    },
    figures,
  );
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    stopped = true;
    for (const child of children) child.kill(signal);
  });
}
process.on("exit", () => {
  for (const child of children) child.kill("SIGTERM"); // after an error of ours: they save and end
});
const jobs = Number(values.jobs);
if (!(Number.isInteger(jobs) && jobs > 0))
  throw new UsageError(`--jobs: expected a number above 0, got ${values.jobs}`);
const recipe = loadConfig({ file: values.recipe, flags: { data: values.data } });
const seeds = values.seeds.split(",").map(Number);
const tasks = seeds.flatMap((seed) => plannedRuns(recipe).map((run) => taskOf(run, seed, recipe)));

/** Whether a task is among these rows. */
const isIn = (runs: readonly Run[], { name, seed, hash }: Task) =>
  runs.some((row) => row.run === name && row.seed === seed && row.settings === hash);

/** A seed's run of this name. */
const named = (name: string, seed: number) => tasks.find((task) => task.name === name && task.seed === seed)!;

/** The run whose supernet, or gate set, a task waits for. */
function needed({ name, seed, from }: Task): Task | undefined {
  return from && named(name === BASE ? from : BASE, seed);
}

/** What is still to do: what is not recorded, and what that starts from and is no longer there (a run's report comes last). */
function tasksToDo(): Set<Task> {
  const { runs } = readRecord(values.record);
  const left = new Set(tasks.filter((task) => !isIn(runs, task)));
  for (const task of left) {
    const first = needed(task);
    if (first !== undefined && !existsSync(join(first.output, "report.html"))) left.add(first); // and comes to that in turn
  }
  return left;
}

/** A run takes as long as the same one of another seed, else as the mean of those with or without a stage I of their own. */
function secondsLeft(left: ReadonlySet<Task>, runs: readonly Run[]): number {
  const gateOnly = new Map(tasks.map(({ name, from }) => [name, from !== undefined]));
  const mean = (list: readonly Run[]) => list.reduce((sum, run) => sum + run.seconds, 0) / list.length;
  const expected = ({ name, from }: Task) => {
    const same = runs.filter((run) => run.run === name);
    return mean(same.length > 0 ? same : runs.filter((run) => gateOnly.get(run.run) === (from !== undefined)));
  };
  return [...left].reduce((sum, task) => sum + expected(task), 0) / jobs;
}

let recording = Promise.resolve();

async function run(task: Task): Promise<void> {
  const log = `${task.output}.log`;
  const resumed = existsSync(join(task.output, "args.yaml"));
  console.log(`${task.name}, seed ${task.seed}: ${resumed ? "goes on" : "begins"}, ${log}`);
  const args = resumed ? ["train", "--resume", "--output", task.output] : commandOf(task);
  if (task.from !== undefined) await shareGateSet(task, named(BASE, task.seed));
  const code = await dsnet([...args, "--threads", "1"], log);
  if (code !== 0) {
    if (!stopped) console.log(`${task.name}, seed ${task.seed}: ended with exit code ${code}, see ${log}`);
    stopped = true;
    process.exitCode = code;
    return;
  }
  recording = recording.then(() => record(task)); // one after another: each rewrites the tables
  await recording;
  left.delete(task);
  const seconds = secondsLeft(left, readRecord(values.record).runs);
  const time = Number.isFinite(seconds) && left.size > 0 ? `, about ${formatSeconds(seconds)} left` : "";
  console.log(`${task.name}, seed ${task.seed}: recorded, ${tasks.length - left.size} of ${tasks.length} runs${time}`);
}

await mkdir(values.runs, { recursive: true });
const left = tasksToDo();
const waiting = new Set(left);
const running = new Set<Promise<void>>();
for (;;) {
  while (running.size < jobs && !stopped) {
    const task = [...waiting].find((one) => {
      const first = needed(one);
      return first === undefined || !left.has(first);
    });
    if (task === undefined) break;
    waiting.delete(task);
    const done: Promise<void> = run(task).finally(() => running.delete(done));
    running.add(done);
  }
  if (running.size === 0) break;
  await Promise.race(running);
}
if (stopped) process.exitCode ??= 130;
console.log(
  stopped
    ? "stopped; the same command goes on from here"
    : `all ${tasks.length} runs are recorded in ${values.record}; npm run results makes docs/RESULTS.md of them`,
);
