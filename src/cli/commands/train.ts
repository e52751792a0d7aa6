/** `dsnet train`: the supernet, its norm statistics, the gate, and the honest table of the result. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { UsageError } from "../../errors.js";
import { listModels } from "../../models/registry.js";
import { defaultConfig } from "../../train/defaults.js";
import { loadConfig } from "../config.js";
import { jsonOption } from "../options.js";
import { flagOf, type Leaf, leaves, settingAt, typed } from "../schema.js";
import { Terminal } from "../terminal.js";
import { runTraining } from "../training.js";

const GROUPS: Record<string, string> = { augment: "Augmentation:", gate: "Stage II, the gate:" };

interface Options {
  config?: string;
  resume?: boolean;
  profile?: boolean;
  json?: boolean;
}

export function define(command: Command): void {
  const flags: Record<string, string> = {};
  command
    .option("--config <file>", "YAML file with the settings below, underscores for dashes, nested at the dots")
    .option("--resume", "go on with the run in --output, with its settings")
    .option("--profile", "measure where stage I's time goes: data, ops, evaluation; printed at the end")
    .addOption(jsonOption());
  for (const leaf of leaves.values()) {
    command.addOption(settingOption(leaf, (text) => (flags[leaf.path] = text)));
  }
  command
    .addHelpText(
      "after",
      `
Flags win over the file, the file over the defaults. Ctrl-C saves and stops; --resume goes on.

Examples:
  dsnet train --model ds_mbnet_28 --data mnist
  dsnet train --config recipe.yaml --epochs 30 --gate.candidates 0,1,2,5
  dsnet train --model ds_mbnet_28 --data photos --init runs/demo/best.safetensors --lr 0.02
  dsnet train --model ds_mbnet_28 --data mnist --epochs 1 --gate.epochs 0 --profile
  dsnet train --resume --output runs/ds_mbnet_28`,
    )
    .action(async ({ config, resume = false, profile = false, json }: Options) => {
      const terminal = new Terminal({ json });
      if (resume && flags.init !== undefined) {
        throw new UsageError("--init: a resumed run goes on with its own weights; leave out --init or --resume");
      }
      const file = config ?? (resume ? argsOfRun(flags.output) : undefined);
      const settings = loadConfig({ file, flags });
      process.exitCode = await runTraining(settings, terminal, { resume, profile });
    });
}

/** The file with the settings that the run in a folder was started with. */
function argsOfRun(output: string | undefined): string {
  if (output === undefined) throw new UsageError("--resume: expected the run's folder: give --output");
  const file = join(output, "args.yaml");
  if (!existsSync(file)) throw new UsageError(`--resume: expected a run in ${output}, found no args.yaml there`);
  return file;
}

function settingOption({ path, about, kind, options, nullable }: Leaf, set: (text: string) => void): Option {
  const value = { number: "n", text: "text", list: "n,n", choice: options.join("|") }[kind];
  const section = path.includes(".") ? path.split(".")[0]! : "";
  const usual = usualDefault(path);
  return new Option(
    `${flagOf(path)} <${value}${nullable ? "|none" : ""}>`,
    usual === undefined ? about : `${about} (default: ${usual})`,
  )
    .argParser(set)
    .helpGroup(GROUPS[section] ?? "Settings:");
}

/** A default as it would be typed, if it is the same for every model. */
function usualDefault(path: string): string | undefined {
  const [first, ...others] = listModels().map((model) => {
    const value = settingAt(defaultConfig(model), path);
    return typed(Array.isArray(value) ? value.map((x) => Number(x.toPrecision(3))) : value);
  });
  return first !== "" && others.every((other) => other === first) ? first : undefined;
}
