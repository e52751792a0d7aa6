/**
 * Makes a run's model one that comes with the package: models/NAME.safetensors and its card. Measures it on its validation images, in
 * fp32 and with weights in fp16; stores it in fp16 if no figure of the honest table changes, else in fp32, with the figures in it.
 *
 *     npm run build && node scripts/ship-model.mjs runs/cifar10/best.safetensors cifar10
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Terminal } from "../dist/src/cli/terminal.js";
import { formatBytes } from "../dist/src/cli/units.js";
import { formatEvaluation } from "../dist/src/evaluate/table.js";
import { withHalfWeights, withoutTraining } from "../dist/src/io/compact.js";
import { writeFileAtomic } from "../dist/src/io/files-node.js";
import { encodeModel } from "../dist/src/io/model-file.js";
import { readModelFile } from "../dist/src/io/model-file-node.js";
import { val } from "../dist/src/train/index.js";
import { DATA, modelCard, shippedFile } from "./model-card.mjs";

const [source, name, ...more] = process.argv.slice(2);
if (source === undefined || DATA[name] === undefined || more.length > 0) {
  console.error(`usage: node scripts/ship-model.mjs MODEL ${Object.keys(DATA).join("|")}`);
  process.exit(2);
}
const terminal = new Terminal();
const folder = mkdtempSync(join(tmpdir(), "dsnet-ship-"));
try {
  await ship();
} catch (error) {
  terminal.error(error.code, error.message);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}

async function ship() {
  const exact = withoutTraining(await readModelFile(source));
  if (exact.candidates.length === 0 || exact.calibration === undefined || exact.cascades === undefined) {
    throw new Error(`${source}: expected the model of a finished run, with a gate and its budgets`);
  }
  const { labels = exact.classes } = DATA[name];
  if (labels.length !== exact.classes.length) {
    throw new Error(`${source}: expected a model of ${labels.length} classes, it has ${exact.classes.length}`);
  }
  exact.classes = labels;
  const half = withHalfWeights(exact);
  const [inSingle, inHalf] = [await figures(exact, "fp32"), await figures(half, "fp16")];
  const changes = differences(formatEvaluation(inSingle), formatEvaluation(inHalf));
  for (const [single, rounded] of changes) terminal.print(`fp32  ${single}\nfp16  ${rounded}`);
  const [file, results] = changes.length === 0 ? [half, inHalf] : [exact, inSingle];

  const bytes = encodeModel({ ...file, results });
  mkdirSync(fileURLToPath(new URL("../models", import.meta.url)), { recursive: true });
  await writeFileAtomic(shippedFile(name, "safetensors"), bytes);
  await writeFileAtomic(shippedFile(name, "md"), new TextEncoder().encode(modelCard(name, bytes)));
  terminal.print(
    changes.length === 0 ? "no figure changes in fp16: stored so" : "figures change in fp16: stored in fp32",
  );
  terminal.print(`wrote models/${name}.safetensors, ${formatBytes(bytes.length)}, and models/${name}.md`);
}

async function figures(file, label) {
  const path = join(folder, `${label}.safetensors`);
  await writeFileAtomic(path, encodeModel(file));
  return val(path, {
    data: DATA[name].path,
    onProgress: (done, total) => terminal.progress.update({ label, done, total, images: done }),
  });
}

/** Lines that are not the same in both. */
function differences(a, b) {
  const [ours, theirs] = [a.split("\n"), b.split("\n")];
  const pairs = Array.from({ length: Math.max(ours.length, theirs.length) }, (_, i) => [
    ours[i] ?? "",
    theirs[i] ?? "",
  ]);
  return pairs.filter(([line, other]) => line !== other);
}
