/**
 * Records a finished training as a main result: the honest table, the AUC of gate and confidence on three kinds of images, its widths against the
 * same widths trained alone, and the time saved against the arithmetic saved.
 *
 *     npm run build && node dist/bench/results/record-run.js runs/cifar10 --recipe recipes/cifar10.yaml
 *         [--alone runs/cifar10-width-0 --alone runs/cifar10-width-2 --alone runs/cifar10-width-5]
 *         [--record results/cifar10] [--threads 0] [--passes 7]
 *
 * Needs the native kernels, and for the times a machine with nothing else to do: a few minutes.
 */

import "../plain-errors.js";
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { loadConfig } from "../../src/cli/config.js";
import type { Dataset } from "../../src/data/dataset.js";
import type { Splits } from "../../src/data/open-node.js";
import { UsageError } from "../../src/errors.js";
import { pairedInterval } from "../../src/evaluate/interval.js";
import type { Measured } from "../../src/evaluate/measure.js";
import { readBytes, writeFileAtomic } from "../../src/io/files-node.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import type { TrainConfig } from "../../src/train/config.js";
import { partsOf } from "../../src/train/parts.js";
import { RunFolder } from "../../src/train/run-folder-node.js";
import { measureModel } from "../../src/train/val-node.js";
import {
  addToRecord,
  commitNow,
  type Figure,
  figuresOf,
  flagsFrom,
  type Images,
  type Run,
  readRecord,
  settingsHash,
} from "./record.js";
import { passesOf, timesOf } from "./times.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    recipe: { type: "string" },
    alone: { type: "string", multiple: true, default: [] },
    record: { type: "string" },
    threads: { type: "string", default: "0" },
    passes: { type: "string", default: "7" },
  },
});
const [folder] = positionals;
if (folder === undefined || values.recipe === undefined) {
  throw new UsageError("expected the folder of a finished run, and its --recipe");
}
const recipe = values.recipe;
const threads = Number(values.threads);
const passes = passesOf(values.passes);
const recordFolder = values.record ?? join("results", basename(folder));
if (values.alone.length === 0 && readRecord(recordFolder).figures.some(({ what }) => what.endsWith(" - alone"))) {
  throw new UsageError(
    `${recordFolder} compares with widths trained alone, and would lose that; give their folders with --alone, or another --record`,
  );
}

interface Trained {
  run: Run;
  model: string;
  config: TrainConfig;
}

async function trained(folder: string, name: string): Promise<Trained> {
  const config = (await RunFolder.readArgs(folder)) as unknown as TrainConfig;
  const model = join(folder, "best.safetensors");
  const file = await readModelFile(model);
  if (file.results === undefined)
    throw new UsageError(`${folder}: expected a finished run; go on with dsnet train --resume`);
  const flags = flagsFrom(loadConfig({ file: recipe, flags: { data: "-", output: "-" } }), config);
  const run: Run = {
    run: name,
    seed: config.seed,
    settings: settingsHash(config),
    seconds: await RunFolder.readSeconds(folder),
    commit: commitNow(),
    kernels: file.kernelBuild ?? "",
    command: ["dsnet train --config", recipe, ...flags].join(" "),
  };
  return { run, model, config };
}

/** What the run learnt from, or held out. */
const partOf = (config: TrainConfig, part: "learned" | "heldOut") => (data: Splits) =>
  partsOf(data.train, config)[part];

async function tableOn(t: Trained, images: Images, split: (data: Splits) => Dataset): Promise<[Figure[], Measured]> {
  console.log(`${t.model}: ${images} images`);
  const { evaluation, measured } = await measureModel(t.model, { data: t.config.data, split, threads });
  return [figuresOf(evaluation, { run: t.run.run, seed: t.run.seed, images }), measured];
}

/** A difference of two networks on the same images. */
function difference(what: string, about: Pick<Figure, "run" | "seed">, a: Uint8Array, b: Uint8Array): Figure {
  const { difference: value, low, high } = pairedInterval(Float64Array.from(a, (right, i) => right - b[i]!));
  return { ...about, images: "validation", what, madds: null, value, low, high, n: a.length };
}

const whole = await trained(folder, "supernet");
const [validation, measured] = await tableOn(whole, "validation", ({ val }) => val);
const [heldOut] = await tableOn(whole, "held-out", partOf(whole.config, "heldOut"));
const [learned] = await tableOn(whole, "training", partOf(whole.config, "learned"));
const about = { run: "supernet", seed: whole.run.seed };
const figures = [...validation, ...heldOut, ...learned];

const pairs: Figure[] = [];
for (const path of values.alone) {
  const one = await trained(path, "");
  const { width } = one.config;
  const expected = { ...whole.config, width, output: one.config.output };
  const places = { threads: one.config.threads, workers: one.config.workers, device: one.config.device };
  if (width === null || !isDeepStrictEqual(one.config, { ...expected, ...places })) {
    throw new UsageError(`${path}: expected a run with --width whose other settings are those of ${folder}`);
  }
  one.run.run = `width ${width} alone`;
  const [rows, alone] = await tableOn(one, "validation", ({ val }) => val);
  await addToRecord(
    recordFolder,
    one.run,
    rows.filter(({ what }) => what === "width 0"),
  );
  pairs.push(difference(`width ${width} - alone`, about, measured.widths[width]!.correct, alone.widths[0]!.correct));
}

await addToRecord(recordFolder, whole.run, [
  ...figures,
  ...pairs,
  ...(await timesOf(whole.model, whole.config.data, passes, figures)),
]);
const log = join(folder, "results.csv");
if (existsSync(log)) await writeFileAtomic(join(recordFolder, "epochs.csv"), await readBytes(log));
console.log(`recorded in ${recordFolder}; npm run results makes docs/RESULTS.md of it`);
