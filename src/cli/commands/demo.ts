/** `dsnet demo`: both stages on MNIST, small enough to watch. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { TrainConfig } from "../../train/config.js";
import { defaultConfig } from "../../train/defaults.js";
import { type Device, deviceOption, jsonOption } from "../options.js";
import { Terminal } from "../terminal.js";
import { runTraining } from "../training.js";

interface Options {
  quick?: boolean;
  device: Device;
  output: string;
  json?: boolean;
}

/** The demo's settings, where they are not the model's defaults. */
export function demoConfig({ quick = false, device, output }: Options): TrainConfig {
  const config = defaultConfig("ds_mbnet_28");
  return {
    ...config,
    data: "mnist",
    output,
    device,
    epochs: quick ? 2 : 5,
    subset: quick ? 12_000 : null,
    batch_size: 64,
    lr: 0.08,
    warmup_epochs: 0.5,
    drop: 0,
    recalibration_batches: quick ? 20 : 100,
    gate: { ...config.gate, epochs: quick ? 4 : 12 },
  };
}

/** `folder`, or `folder-2`, `folder-3`, ...: the first that holds no run. */
export function freeFolder(folder: string): string {
  const isFree = (name: string) => !existsSync(join(name, "args.yaml"));
  if (isFree(folder)) return folder;
  let n = 2;
  while (!isFree(`${folder}-${n}`)) n++;
  return `${folder}-${n}`;
}

export function define(command: Command): void {
  command
    .option("--quick", "a fifth of the images, two epochs: shows that it works, not how well")
    .addOption(deviceOption())
    .option("--output <folder>", "run folder; where it holds a run already, the next free name", "runs/demo")
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  dsnet demo --quick\n  dsnet demo --output runs/mnist")
    .action(async (options: Options) => {
      const config = demoConfig({ ...options, output: freeFolder(options.output) });
      process.exitCode = await runTraining(config, new Terminal({ json: options.json }));
    });
}
