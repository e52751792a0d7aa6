/** `dsnet calibrate`: the table that budgets are kept by, measured on labelled images and stored in the model file. */
import { type Command, Option } from "commander";
import { type CalibrateResult, calibrate } from "../../train/index.js";
import { type Device, deviceOption, jsonOption, modelHelp, threadsOption, whole } from "../options.js";
import { evenly, printable, table } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatCount, formatMadds } from "../units.js";

interface Options {
  data: string;
  split: string;
  output?: string;
  routing?: "gate" | "cascade";
  batchSize: number;
  device: Device;
  threads: number;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<model>", `${modelHelp()}; with a trained gate`)
    .requiredOption("--data <path>", "folder or archive with the images, or mnist")
    .addOption(new Option("--split <name>", "which part of the data").choices(["val", "train"]).default("val"))
    .option("-o, --output <file>", "model file to write; default: the model itself, unless it comes with dsnet")
    .addOption(
      new Option("--routing <how>", "how the model is to choose from now on; default: as it does").choices([
        "gate",
        "cascade",
      ]),
    )
    .option("--batch-size <n>", "images a step", whole(1), 128)
    .addOption(deviceOption())
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Measures what each setting of the budget knob costs and how accurate it is (the gate's λ; which width a cascade goes on
at, below which confidence of the slimmest), for --budget-madds, and how long this device
takes at each width, for --budget-ms (kept in the user's cache, for these --device and --threads). Take images that
neither the weights nor the gate have learnt from.

Examples:
  dsnet calibrate runs/demo/best.safetensors --data mnist
  dsnet calibrate runs/demo/best.safetensors --data mnist --routing gate -o gated.safetensors`,
    )
    .action(async (model: string, { json, ...options }: Options) => {
      const terminal = new Terminal({ json });
      const result = await calibrate(model, {
        ...options,
        onProgress: (done, total) => terminal.progress.update({ label: "calibrate", done, total, images: done }),
        onWarning: (message) => terminal.warn(message),
      });
      terminal.emit(result);
      terminal.print(calibrationText(result, (text) => terminal.paint("bold", text)));
    });
}

/** Rows of the table that people are shown; the file has all. */
const ROWS = 12;

export function calibrationText(
  { model, images, routing, table: points, candidates }: CalibrateResult,
  heading?: (text: string) => string,
): string {
  const right = (title: string) => ({ title, align: "right" as const });
  const shown = evenly(points, ROWS);
  // What several gates choose has no time by width.
  const timed = candidates.length > 0;
  return [
    table(
      [
        right("MAdds"),
        ...(timed ? [right("ms")] : []),
        right("top-1 %"),
        ...(routing.by === "gate" ? [right("λ")] : [right("then width"), right("below")]),
      ],
      shown.map(({ madds, accuracy, shares = [], ...knob }) => [
        formatMadds(madds),
        ...(timed ? [shares.reduce((sum, share, k) => sum + share * candidates[k]!.ms, 0).toFixed(3)] : []),
        (100 * accuracy).toFixed(2),
        ...("lambda" in knob ? [knob.lambda.toPrecision(3)] : [String(knob.wider), knob.threshold.toFixed(3)]),
      ]),
      heading,
    ),
    ...(timed
      ? [
          table(
            [right("width"), right("MAdds"), right("ms")],
            candidates.map(({ width, madds, ms }) => [`${width}`, formatMadds(madds), ms.toFixed(3)]),
            heading,
          ),
        ]
      : []),
    `${formatCount(images)} images; ${timed ? "MAdds and ms are" : "MAdds are"} the mean of one image, all that the choice takes included. ` +
      `${shown.length} of ${points.length} settings shown. Judge the model by other images: its settings were measured on these.\nwrote ${printable(model)}`,
  ].join("\n\n");
}
