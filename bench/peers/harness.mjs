/** What the benchmarks against peers share: flags, turns, the machine, results. */
import { spawnSync } from "node:child_process";
import { cpus, loadavg, platform, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { Philox } from "../../dist/src/random/philox.js";

export function refuse(message) {
  console.error(message);
  process.exit(2);
}

/** The command line's flags, `--json` among them; `--help` prints `help` and ends. */
export function readFlags(help, options) {
  const no = { type: "boolean", default: false };
  let flags;
  try {
    flags = parseArgs({ options: { ...options, json: no, help: no } }).values;
  } catch (error) {
    return refuse(error.message);
  }
  if (flags.help) {
    console.log(help);
    process.exit(0);
  }
  return flags;
}

/** The flag's numbers: `1,2` → [1, 2]. */
export function wholeNumbers(flags, name) {
  const list = flags[name].split(",").map(Number);
  if (list.some((number) => !Number.isInteger(number) || number < 1)) {
    refuse(`--${name}: expected whole numbers above 0, got ${flags[name]}`);
  }
  return list;
}

export const NO_TORCH = "no python3 with torch here";

/** A Python that has PyTorch, and PyTorch's version; neither where there is none. */
export function findTorch() {
  for (const python of ["python3", "/usr/bin/python3"]) {
    const { status, stdout } = spawnSync(python, ["-c", "import torch; print(torch.__version__)"]);
    if (status === 0) return { python, version: stdout.toString().trim() };
  }
  return {};
}

/** One pass through a list in an order of its own. */
export function shuffled(list, ...seed) {
  const random = new Philox(0, "order", ...seed);
  return list
    .map((item) => ({ item, at: random.float() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

export const title = ({ name, threads }) => `${name}, ${threads} ${threads === 1 ? "thread" : "threads"}`;

export function median(ms) {
  const sorted = ms.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Called before measuring; what it returns, called after, tells of the machine and its load at both times. */
export function watchMachine() {
  const before = loadavg()[0];
  return () => ({
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    memory: totalmem(),
    os: `${platform()} ${release()}`,
    load: [before, loadavg()[0]],
  });
}

/** JSON with six digits a number. */
export function resultText(outcome) {
  return JSON.stringify(outcome, (_, x) =>
    typeof x === "number" && !Number.isInteger(x) ? Number(x.toPrecision(6)) : x,
  );
}
