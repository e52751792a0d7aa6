/** `dsnet val`: the honest table of a trained model on labelled images. */
import { type Command, Option } from "commander";
import type { Precision } from "../../backend/backend.js";
import { formatEvaluation } from "../../evaluate/table.js";
import { val } from "../../train/index.js";
import { type Device, deviceOption, jsonOption, modelHelp, precisionOption, threadsOption, whole } from "../options.js";
import { Terminal } from "../terminal.js";

interface Options {
  data: string;
  split: string;
  batchSize: number;
  routes: number;
  device: Device;
  precision: Precision;
  threads: number;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<model>", modelHelp())
    .requiredOption("--data <path>", "folder or archive with the images, or mnist")
    .addOption(new Option("--split <name>", "which part of the data").choices(["val", "train"]).default("val"))
    .option("--batch-size <n>", "images a step", whole(1), 128)
    .option("--routes <n>", "also n random routes through a network with several gates", whole(0), 0)
    .addOption(deviceOption())
    .addOption(precisionOption())
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Every width, the dynamic network, and what it has to beat: the static envelope, random routing, and the other of gate
and cascade; with paired 95 % intervals.

Examples:
  dsnet val runs/demo/best.safetensors --data mnist
  dsnet val runs/ds_resnet/best.safetensors --data cifar-10-binary.tar.gz --routes 200
  dsnet val fashion --data fashion-mnist --json > table.json`,
    )
    .action(async (model: string, { json, ...options }: Options) => {
      const terminal = new Terminal({ json });
      const evaluation = await val(model, {
        ...options,
        onProgress: (done, total) => terminal.progress.update({ label: "val", done, total, images: done }),
        onWarning: (message) => terminal.warn(message),
      });
      terminal.emit(evaluation);
      terminal.print(formatEvaluation(evaluation).trimEnd());
    });
}
