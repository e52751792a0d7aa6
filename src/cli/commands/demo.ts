/** `dsnet demo`: both stages on MNIST, small enough to watch. */
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
    epochs: quick ? 2 : 6,
    subset: quick ? 12_000 : null,
    batch_size: 64,
    lr: 0.08,
    warmup_epochs: 0.5,
    drop: 0,
    recalibration_batches: quick ? 20 : 100,
    gate: { ...config.gate, epochs: quick ? 4 : 12, target_madds: 1.2e6 },
  };
}

export function define(command: Command): void {
  command
    .option("--quick", "a tenth of the images, one epoch: shows that it works, not how well")
    .addOption(deviceOption())
    .option("--output <folder>", "run folder", "runs/demo")
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  dsnet demo --quick\n  dsnet demo --output runs/mnist")
    .action(async (options: Options) => {
      process.exitCode = await runTraining(demoConfig(options), false, new Terminal({ json: options.json }));
    });
}
