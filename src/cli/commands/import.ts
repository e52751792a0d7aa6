/** `dsnet import`: a published checkpoint → model file. Nothing in the checkpoint is run. */
import { basename, extname, resolve } from "node:path";
import type { Command } from "commander";
import { describeSpec } from "../../cost/describe.js";
import { DsnetError, UsageError } from "../../errors.js";
import { readBytes, writeFileAtomic } from "../../io/files-node.js";
import { encodeModel, type ModelFile } from "../../io/model-file.js";
import { naming } from "../../io/place.js";
import { type Checkpoint, readCheckpoint } from "../../io/torch/checkpoint.js";
import { type NetworkOptions, toModelFile } from "../../models/import.js";
import { readSpec } from "../../models/read-spec.js";
import type { ModelSpec } from "../../models/spec.js";
import { jsonOption } from "../options.js";
import { printable } from "../table.js";
import { Terminal } from "../terminal.js";

interface Options {
  output: string;
  ema?: boolean;
  strict?: boolean;
  model?: string;
  spec?: string;
  labels?: string;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<file>", "checkpoint: .pth, .pth.tar or .safetensors")
    .requiredOption("-o, --output <file>", "model file to write")
    .option("--ema", "take the averaged weights, state_dict_ema")
    .option("--strict", "refuse a pickle that names anything but what weights need")
    .option("--model <name>", "name in the registry; default: the model that fits")
    .option("--spec <file>", "JSON table of a network that is not in the registry")
    .option("--labels <file>", "label of each class, one a line; default: 0, 1, ...")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The file is read as data: no code in it is run, whatever it names.

Examples:
  dsnet import ds_mbnet.pth.tar -o ds_mbnet.safetensors
  dsnet import checkpoint.pth.tar -o averaged.safetensors --ema --labels imagenet.txt`,
    )
    .action(async (file: string, { output, json, ...options }: Options) => {
      const terminal = new Terminal({ json });
      if (resolve(file) === resolve(output))
        throw new UsageError("--output: expected another file than the checkpoint");
      const network = await networkOptions(options);
      const bytes = await readBytes(file);
      const { checkpoint, model } = naming(file, () => {
        const checkpoint = readCheckpoint(bytes, options);
        return { checkpoint, model: toModelFile(checkpoint, network) };
      });
      await writeFileAtomic(output, encodeModel(model));
      report({ file, output, checkpoint, model }, terminal);
    });
}

async function networkOptions({ model, spec, labels }: Omit<Options, "output">): Promise<NetworkOptions> {
  if (model !== undefined && spec !== undefined) throw new UsageError("expected either --model or --spec, got both");
  return {
    ...(model !== undefined && { model }),
    ...(spec !== undefined && { spec: await readTable(spec), model: basename(spec, extname(spec)) }),
    ...(labels !== undefined && { classes: await readLabels(labels) }),
  };
}

async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError(`${path}: expected text in UTF-8`, { cause });
  }
}

async function readLabels(path: string): Promise<string[]> {
  const lines = (await readText(path)).split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  const empty = lines.findIndex((line) => line.trim() === "");
  if (empty >= 0) throw new UsageError(`${path}: line ${empty + 1} is empty, expected a label`);
  return lines;
}

async function readTable(path: string): Promise<ModelSpec> {
  const text = await readText(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return readSpec({ description: "", candidates: null, ...(value as object) }, "table");
  } catch (cause) {
    if (cause instanceof DsnetError) throw new UsageError(`${path}: ${cause.message}`, { cause });
    throw cause;
  }
}

interface Import {
  file: string;
  output: string;
  checkpoint: Checkpoint;
  model: ModelFile;
}

/** What was read, what became of it, and what was left. */
export function report({ file, output, checkpoint, model }: Import, terminal: Terminal): void {
  const { format, entry, weights, facts, ignored, inert } = checkpoint;
  const { model: network, classes, candidates, calibrated = [], tensors } = model;
  const dropped = weights.size - tensors.size;
  terminal.emit({
    ...{ file, format, entry, tensors: tensors.size, dropped },
    ...{ model: network.name, classes: classes.length, candidates, calibrated },
    facts: Object.fromEntries(facts),
    ...{ ignored, inert, output },
  });
  const said = [...facts].filter(([name]) => !name.startsWith("args.")).map(([name, value]) => `${name} ${value}`);
  const counters = dropped > 0 ? `, ${dropped} counters of batches left out` : "";
  const lines: [string, string][] = [
    ["read", [`${file} (${format === "safetensors" ? format : `torch, ${format}`})`, ...said].join(", ")],
    ["weights", `${tensors.size} tensors${entry === null ? "" : ` of ${entry}`}${counters}`],
    ["model", `${network.name}, ${classes.length} classes`],
    ["gate", candidates.length > 0 ? `chooses among widths ${candidates.join(" ")}` : "none"],
    ["measured", calibrated.length > 0 ? `widths ${calibrated.join(" ")}` : "no width"],
    ["ignored", ignored.join(", ") || "nothing"],
    ["not resolved", inert.length > 0 ? `${inert.join(", ")} (nothing was run)` : "nothing"],
    ["wrote", output],
  ];
  terminal.print(lines.map(([title, text]) => `${title.padEnd(14)}${printable(text)}`).join("\n"));
  if (facts.get("args.gate_train") === false) {
    terminal.warn("the checkpoint is of supernet training: its gate is not trained, so give predict a --width");
  }
  const unmeasured = describeSpec(network.name, network.spec as ModelSpec)
    .widths.map(({ width }) => width)
    .filter((width) => !calibrated.includes(width));
  if (unmeasured.length > 0) {
    terminal.warn(`no measured norm statistics, so not usable: width ${unmeasured.join(" ")}`);
  }
}
