/** `dsnet predict`: label, route, MAdds and time of each image. An image that cannot be read does not stop the others. */
import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Precision } from "../../backend/backend.js";
import { DataError, DsnetError, UncalibratedError, UsageError } from "../../errors.js";
import { type Classification, load, type Network } from "../../index.js";
import {
  type Device,
  deviceOption,
  type FixedWidth,
  fixedWidth,
  jsonOption,
  modelHelp,
  precisionOption,
  threadsOption,
  whole,
} from "../options.js";
import { table } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatMadds } from "../units.js";

interface Options {
  model: string;
  width?: FixedWidth;
  budgetMadds?: number;
  budgetMs?: number;
  topK: number;
  device: Device;
  precision: Precision;
  threads: number;
  json?: boolean;
}

export interface Prediction extends Classification {
  file: string;
}

export function define(command: Command): void {
  command
    .argument("<image...>", "PNG or JPEG files")
    .requiredOption("--model <file>", modelHelp())
    .addOption(
      new Option(
        "--width <k>",
        "fixed width: its number, largest or smallest; or one for each gate: 2,0,3; default: each image's own",
      )
        .argParser(fixedWidth)
        .conflicts(["budgetMadds", "budgetMs"]),
    )
    .addOption(
      new Option("--budget-madds <n>", "mean MAdds to keep to, for example 12e6")
        .argParser(positive)
        .conflicts("budgetMs"),
    )
    .addOption(
      new Option("--budget-ms <n>", "mean milliseconds an image to keep to on this device").argParser(positive),
    )
    .option("--top-k <n>", "labels an image", whole(1), 5)
    .addOption(deviceOption())
    .addOption(precisionOption())
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
With --json one line an image. The first --budget-ms on a device measures it, for about a second.
The exit code is 1 when any image could not be read.

Examples:
  dsnet predict shirt.jpg boot.png --model fashion
  dsnet predict cat.jpg --model cifar10
  dsnet predict *.png --model runs/demo/best.safetensors --budget-madds 12e6 --json`,
    )
    .action(async (files: string[], { model, device, precision, threads, json, ...choice }: Options) => {
      const terminal = new Terminal({ json });
      const network = await load(model, { device, precision, threads });
      try {
        const predictions = await predict(network, files, choice, terminal);
        if (predictions.length > 0)
          terminal.print(predictionTable(predictions, (text) => terminal.paint("bold", text)));
        if (predictions.length < files.length) process.exitCode = 1;
      } finally {
        network.dispose();
      }
    });
}

/** Those that succeed; the others are reported, with `--json` as a line `{file, error}`. */
export async function predict(
  network: Pick<Network, "classify">,
  files: readonly string[],
  { width, budgetMadds, budgetMs, topK }: Pick<Options, "width" | "budgetMadds" | "budgetMs" | "topK">,
  terminal: Terminal,
): Promise<Prediction[]> {
  const options = {
    topK,
    ...(width !== undefined && { width }),
    ...(budgetMadds !== undefined && { budget: { madds: budgetMadds } }),
    ...(budgetMs !== undefined && { budget: { ms: budgetMs } }),
  };
  const predictions: Prediction[] = [];
  for (const [i, file] of files.entries()) {
    if (i > 0) terminal.progress.update({ label: "predict", done: i, total: files.length, images: i });
    try {
      const [classification] = await network.classify(await read(file), options);
      predictions.push({ file, ...classification! });
      terminal.emit(predictions.at(-1));
    } catch (error) {
      // What is asked for is the same for every image: no image's fault.
      if (!(error instanceof DsnetError) || error instanceof UsageError || error instanceof UncalibratedError)
        throw error;
      terminal.emit({ file, error: { code: error.code, message: error.message } });
      terminal.error(error.code, `${file}: ${error.message}`);
    }
  }
  return predictions;
}

async function read(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const known: Record<string, string> = { ENOENT: "there is no such file", EISDIR: "is a folder, expected an image" };
    throw new DataError(known[code ?? ""] ?? `cannot be read: ${message}`, { cause });
  }
}

/** One line a label; file, route and cost on the first of an image. */
export function predictionTable(predictions: readonly Prediction[], heading?: (text: string) => string): string {
  const columns = [
    { title: "file" },
    { title: "label" },
    { title: "score", align: "right" as const },
    { title: "route" },
    { title: "MAdds", align: "right" as const },
    { title: "ms", align: "right" as const },
  ];
  const rows = predictions.flatMap(({ file, labels, route, madds, ms }) => {
    // Through several gates as `--width` takes it.
    const path =
      route.length > 1
        ? route.map(({ width }) => width).join(",")
        : route.map(({ width, channels }) => `width ${width} (${channels} channels)`).join();
    return labels.map(({ label, score }, i) =>
      i === 0
        ? [file, label, score.toFixed(4), path || "fixed", formatMadds(madds), ms.toFixed(2)]
        : ["", label, score.toFixed(4)],
    );
  });
  return table(columns, rows, heading);
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("Expected a number > 0.");
}
