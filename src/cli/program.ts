/** The program `dsnet`: its verbs, and what becomes of errors. A verb's file is loaded when the verb is called. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, CommanderError } from "commander";
import { DsnetError, UsageError } from "../errors.js";
import { nearest } from "./nearest.js";
import { Terminal } from "./terminal.js";

interface Verb {
  about: string;
  load(): Promise<{ define(command: Command): void }>;
}

const VERBS: Readonly<Record<string, Verb>> = {
  train: { about: "Train a model: the supernet, then its gate", load: () => import("./commands/train.js") },
  val: { about: "Evaluate a model: the honest table", load: () => import("./commands/val.js") },
  predict: { about: "Classify images: label, route, MAdds, time", load: () => import("./commands/predict.js") },
  calibrate: {
    about: "Measure what each budget buys, and set how widths are chosen",
    load: () => import("./commands/calibrate.js"),
  },
  benchmark: {
    about: "Time every width and the choice, against this core's peak",
    load: () => import("./commands/benchmark.js"),
  },
  import: { about: "Convert a published checkpoint into a model file", load: () => import("./commands/import.js") },
  export: { about: "Write a model to hand on: whole, one width, or ONNX", load: () => import("./commands/export.js") },
  inspect: { about: "Show a model's stages, widths and costs", load: () => import("./commands/inspect.js") },
  checks: {
    about: "Show which backend runs here, and why not a better one",
    load: () => import("./commands/checks.js"),
  },
  "build-native": {
    about: "Compile the native kernels for this machine",
    load: () => import("./commands/build-native.js"),
  },
  demo: { about: "Train both stages on MNIST and show the honest table", load: () => import("./commands/demo.js") },
};

/** Runs the program with the words behind its name. Reports errors to stderr and sets the process's exit code. */
export async function run(words: readonly string[]): Promise<void> {
  const end = words.indexOf("--"); // what follows are no flags
  const args = words.map((word, i) => (end >= 0 && i > end ? word : dashed(word)));
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const verb = first === "help" ? second : first;
  try {
    await (await buildProgram(verb)).parseAsync(args, { from: "user" });
  } catch (error) {
    const verbose = args.includes("--verbose") || Boolean(process.env.DEBUG);
    process.exitCode = await report(error, verb, args, verbose, new Terminal());
  }
}

async function buildProgram(verb: string | undefined): Promise<Command> {
  const program = new Command("dsnet")
    .description("Dynamic slimmable networks: the width is chosen for every image.")
    .version(version())
    .option("--verbose", "show where an error comes from")
    .exitOverride()
    .configureOutput({ outputError: () => {} }) // `report` says it
    .addHelpText(
      "after",
      "\n`dsnet <command> --help` has examples. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    );
  for (const [name, { about, load }] of Object.entries(VERBS)) {
    const command = program.command(name).description(about);
    if (name === verb) (await load()).define(command);
  }
  return program;
}

/** Says what went wrong, and gives the exit code. */
async function report(
  error: unknown,
  verb: string | undefined,
  args: readonly string[],
  verbose: boolean,
  terminal: Terminal,
): Promise<number> {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // --help, --version
    if (error.code === "commander.help") return 2; // no verb: the help was the answer
    terminal.error("ERR_USAGE", await usageMessage(error, verb, args));
    terminal.note(`see \`dsnet ${verb !== undefined && verb in VERBS ? `${verb} ` : ""}--help\``);
    return 2;
  }
  const ours = error instanceof DsnetError;
  if (ours) terminal.error(error.code, error.message);
  else terminal.error(undefined, `unexpected ${error}; this is a defect of dsnet, --verbose shows where`);
  if (verbose && error instanceof Error) terminal.note(stackOf(error));
  return error instanceof UsageError ? 2 : 1;
}

/** Commander's message, with a better guess for a setting of `train`, whose other names we know. */
async function usageMessage(
  { code, message }: CommanderError,
  verb: string | undefined,
  args: readonly string[],
): Promise<string> {
  const text = message.replace(/^error: /, "");
  if (code === "commander.missingMandatoryOptionValue") return `${text}${misspelt(text, args)}`;
  const flag = /'--([^'=]+)/.exec(text)?.[1];
  if (code !== "commander.unknownOption" || verb !== "train" || flag === undefined) return text.replace("\n", " ");
  const { suggestFlag } = await import("./config.js");
  const guess = suggestFlag(flag);
  return guess === "" ? text.replace("\n", " ") : `unknown option '--${flag}'${guess}`;
}

/** Commander looks for what is missing before it looks at what it does not know: `--modle` is both. */
function misspelt(text: string, args: readonly string[]): string {
  const missing = /--[a-z-]+/.exec(text)?.[0] ?? "";
  const typed = args
    .map((arg) => arg.replace(/=.*/s, ""))
    .find((arg) => arg.startsWith("--") && nearest(arg, [missing]));
  return typed === undefined ? "" : `; is '${typed}' meant to be it?`;
}

function stackOf(error: Error): string {
  const own = error.stack ?? String(error);
  return error.cause instanceof Error ? `${own}\ncaused by ${stackOf(error.cause)}` : own;
}

/** `--batch_size=64` → `--batch-size=64`: underscores in a flag's name are as good as dashes. */
function dashed(arg: string): string {
  return /^--[^=]/.test(arg) ? arg.replace(/^[^=]+/, (name) => name.replaceAll("_", "-")) : arg;
}

/** Of the nearest package.json above this file: the package's own, installed or built in a clone. */
function version(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version;
}
