/** Runs a training in the terminal: progress, one line an epoch, the honest table at the end, Ctrl-C that saves. */
import { formatEvaluation } from "../evaluate/table.js";
import type { TrainConfig } from "../train/config.js";
import { type TrainEvent, type TrainOptions, train } from "../train/index.js";
import { interruptible } from "./interrupt.js";
import { formatProfile } from "./profile.js";
import { printable } from "./table.js";
import type { Terminal } from "./terminal.js";
import { formatCount, formatSeconds } from "./units.js";

/** The process's exit code: 0, or the signal's. */
export async function runTraining(
  config: TrainConfig,
  terminal: Terminal,
  options: Pick<TrainOptions, "resume" | "profile"> = {},
): Promise<number> {
  const { value, exitCode } = await interruptible(
    (signal) => train(config, { ...options, signal, onEvent: (event) => showEvent(event, terminal) }),
    () => terminal.note("interrupted: finishing this step and saving; once more to stop at once"),
  );
  terminal.emit({ type: "result", ...value });
  if (value.interrupted) {
    terminal.note(`interrupted; go on with: dsnet train --resume --output ${config.output}`);
    return exitCode;
  }
  if (value.evaluation) terminal.print(`\n${formatEvaluation(value.evaluation)}`);
  terminal.print(`model   ${value.model}\nreport  ${value.report}`);
  return 0;
}

/** One event: with `--json` a line as it is, progress for people besides. */
export function showEvent(event: TrainEvent, terminal: Terminal): void {
  terminal.emit(event);
  switch (event.type) {
    case "start":
      for (const [name, value] of Object.entries(event.facts)) terminal.print(fact(name, value));
      break;
    case "step":
      terminal.progress.update({
        label: `${event.stage} ${event.epoch}`,
        done: event.step,
        total: event.steps,
        images: event.images,
        note: `lr ${Number(event.lr.toPrecision(3))}  ${losses(event.loss)}`,
      });
      break;
    case "epoch":
      terminal.print(epochLine(event));
      break;
    case "phase":
      terminal.progress.update({ label: event.name, done: event.done, total: event.total });
      break;
    case "warning":
      terminal.warn(event.message);
      break;
    case "profile":
      terminal.print(formatProfile(event));
      break;
    case "saved": // where to is said once, at the end
      break;
  }
}

/** `train_images`, 54000 → `train images    54,000`; a list has a line an item. */
function fact(name: string, value: unknown): string {
  const items = Array.isArray(value) ? value : [value];
  const texts = items.map((item) => printable(typeof item === "number" ? formatCount(item) : String(item)));
  return `${name.replaceAll("_", " ").padEnd(16)}${texts.join(`\n${" ".repeat(16)}`)}`;
}

/** Short enough for 120 cells: the pace is on the progress line and in results.csv. */
function epochLine({ stage, epoch, epochs, seconds, loss, accuracy }: TrainEvent & { type: "epoch" }) {
  const parts = [
    `${stage} ${String(epoch).padStart(String(epochs).length)}/${epochs}`,
    formatSeconds(seconds).padStart(8),
    losses(loss),
  ];
  if (accuracy) parts.push(`top-1 ${accuracies(accuracy)} %`);
  return parts.join("  ");
}

/** Numbered widths, slimmest first, go without their numbers: `94.3 94.8 95.1`; others are named: `dynamic 95.2`. */
function accuracies(accuracy: Record<string, number>): string {
  return Object.entries(accuracy)
    .map(([name, share]) => (/^\d+$/.test(name) ? "" : `${name} `) + (100 * share).toFixed(1))
    .join(" ");
}

function losses(loss: Record<string, number>): string {
  const terms = Object.entries(loss).map(([name, value]) => (name === "loss" ? "" : `${name} `) + value.toFixed(3));
  return `loss ${terms.join(" ")}`;
}
