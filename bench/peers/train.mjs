/**
 * A step of stage I in dsnet and in PyTorch, on the same network, weights and images: `npm run bench:train`, see --help.
 *
 * Every runtime is a process of its own; they take turns in shuffled order, so that whatever disturbs the machine disturbs all.
 * Before anything is timed, the losses of three steps are compared: forward, backward, optimiser, statistics and teacher agree.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openBackend } from "../../dist/src/backend/open.js";
import { table } from "../../dist/src/cli/table.js";
import { madds } from "../../dist/src/cost/madds.js";
import { writeSafetensors } from "../../dist/src/io/safetensors.js";
import { build, topSlot } from "../../dist/src/models/build.js";
import { modelSpec } from "../../dist/src/models/registry.js";
import { allocSpan, initState, writeState } from "../../dist/src/models/state.js";
import { Philox } from "../../dist/src/random/philox.js";
import {
  findTorch,
  median,
  NO_TORCH,
  progress,
  readFlags,
  resultText,
  shuffled,
  title,
  watchMachine,
  wholeNumbers,
} from "./harness.mjs";
import { Worker } from "./worker.mjs";

const MODEL = "ds_mbnet_32";
const BATCH = 64;
const DROPOUT = 0.2;
/** Of a loss. */
const TOLERANCE = 1e-4;
/** Batch whose memory is looked at, and the most it may take. */
const MEMORY = { batch: 128, limit: 2 ** 32 };
const TASKS = { sandwich: "sandwich step", full: "forward, backward, SGD" };
/** Times PyTorch's speed at two threads. */
const FLOORS = { "dsnet native": 2.5, "dsnet wasm": 0.6 };
const results = fileURLToPath(new URL("../train-results.json", import.meta.url));

const HELP = `npm run bench:train -- [options]

  --threads 1,2     thread counts (default: 1,2)
  --visits n        rounds through all runtimes (default: 8)
  --json            results to stdout instead of tables; bench/train-results.json has them in any case

${MODEL}, batch ${BATCH}, random images. A sandwich step: EMA teacher, the widest, 2 random widths and the slimmest forward and backward,
SGD, EMA. A round makes one step to warm up and two that count. PyTorch (python3-torch) is left out where it is not installed.`;

const text = (value) => ({ type: "string", default: value });
const flags = readFlags(HELP, { threads: text("1,2"), visits: text("8") });
const [threadCounts, [visits]] = ["threads", "visits"].map((name) => wholeNumbers(flags, name));

// Without these every large tensor is mapped and unmapped, and page faults more than double PyTorch's time.
process.env.MALLOC_MMAP_THRESHOLD_ = String(2 ** 30);
process.env.MALLOC_TRIM_THRESHOLD_ = String(2 ** 32);
const torch = findTorch();
const runtimes = threadCounts.flatMap((threads) => [
  ...["native", "wasm"].map((device) => ({
    ...{ name: `dsnet ${device}`, threads, command: process.execPath, args: ["train-dsnet.mjs", device, threads] },
  })),
  ...(torch.python ? [{ name: "torch", threads, command: torch.python, args: ["train-pytorch.py", threads] }] : []),
]);
if (!torch.python) console.error(`torch: left out, ${NO_TORCH} (Debian: python3-torch)`);

const folder = mkdtempSync(join(tmpdir(), "dsnet-train-"));
process.once("SIGINT", () => process.exit(130)); // workers end with their input
process.once("exit", () => rmSync(folder, { recursive: true }));

/** Random weights and images as files. */
async function writeInputs(net) {
  const backend = await openBackend({ threads: 1 });
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  const [weights, images] = [join(folder, "weights.safetensors"), join(folder, "images.f32")];
  const metadata = new Map([["spec", JSON.stringify(net.spec)]]);
  writeFileSync(weights, writeSafetensors(writeState(backend, net, span), metadata));
  backend.dispose();
  const { height, width, channels } = net.spec.input;
  const random = new Philox(0, "bench");
  writeFileSync(
    images,
    Float32Array.from({ length: MEMORY.batch * height * width * channels }, () => random.normal()),
  );
  return { weights, images };
}

/** Starts a runtime; the losses of three steps without dropout. Its later steps are with. */
async function start(runtime, inputs) {
  runtime.worker = new Worker(runtime.command, runtime.args.map(String));
  runtime.samples = { sandwich: [], full: [] };
  await runtime.worker.ask({ op: "load", ...inputs, batch: BATCH, dropout: 0 });
  const { losses } = await runtime.worker.ask({ op: "run", task: "sandwich", widths: [1, 3], n: 3 });
  await runtime.worker.ask({ op: "load", ...inputs, batch: BATCH, dropout: DROPOUT });
  return losses.flatMap(({ largest, random, smallest }) => [largest, random, smallest]);
}

/** Those that start and agree with the first. */
async function prepare(inputs) {
  const sound = [];
  let expected;
  for (const runtime of runtimes) {
    progress(`loading ${title(runtime)}`);
    try {
      const losses = await start(runtime, inputs);
      expected ??= losses;
      runtime.off = Math.max(...losses.map((loss, i) => Math.abs(loss / expected[i] - 1)));
      if (!(runtime.off <= TOLERANCE)) throw new Error(`losses are off by ${runtime.off.toExponential(1)}`);
      sound.push(runtime);
    } catch (error) {
      console.error(`${title(runtime)}: left out, ${error.message}`);
    }
  }
  return sound;
}

async function measure(sound, net) {
  for (let visit = 0; visit < visits; visit++) {
    progress(`measuring, round ${visit + 1} of ${visits}`);
    const random = new Philox(0, "widths", visit);
    const widths = [1 + random.int(net.widths - 2), 1 + random.int(net.widths - 2)];
    for (const runtime of shuffled(sound, visit)) {
      for (const task of Object.keys(TASKS)) {
        const { ms } = await runtime.worker.ask({ op: "run", task, widths, n: 3 });
        runtime.samples[task].push(...ms.slice(1));
      }
    }
  }
}

/** The most that one sandwich step of MEMORY.batch images has in use, in a process of its own; null where dsnet runs not. */
async function peakMemory(sound, inputs) {
  const own = sound.find(({ name }) => name.startsWith("dsnet"));
  if (own === undefined) return null;
  const worker = new Worker(own.command, own.args.map(String));
  await worker.ask({ op: "load", ...inputs, batch: MEMORY.batch, dropout: DROPOUT });
  const { bytes } = await worker.ask({ op: "run", task: "sandwich", widths: [net.widths - 2, net.widths - 2], n: 1 });
  worker.close();
  return bytes;
}

/** How many times as fast as PyTorch at as many threads; undefined without it. */
function speedUp(sound, { threads, samples }, task) {
  const peer = sound.find((other) => other.name === "torch" && other.threads === threads);
  return peer && median(peer.samples[task]) / median(samples[task]);
}

function report(sound, bytes) {
  const titles = ["runtime", "threads", "median ms", "best ms", "images/s", "best images/s", "times torch"];
  const columns = titles.map((title, i) => ({ title, align: i === 0 ? "left" : "right" }));
  for (const [task, what] of Object.entries(TASKS)) {
    const rows = sound
      .toSorted((a, b) => a.threads - b.threads)
      .map((runtime) => {
        const ms = runtime.samples[task];
        const [usual, best] = [median(ms), Math.min(...ms)];
        const rates = [usual, best].map((x) => ((BATCH / x) * 1000).toFixed(0));
        const times = speedUp(sound, runtime, task)?.toFixed(2) ?? "";
        return [runtime.name, String(runtime.threads), usual.toFixed(1), best.toFixed(1), ...rates, times];
      });
    console.log(`\n${what}, ${MODEL}, batch ${BATCH}\n${table(columns, rows)}`);
  }
  console.log();
  for (const [name, floor] of Object.entries(FLOORS)) {
    const runtime = sound.find((other) => other.name === name && other.threads === 2);
    const times = runtime && speedUp(sound, runtime, "sandwich");
    const found = times === undefined ? "not measured" : `${times.toFixed(2)}, ${times >= floor ? "kept" : "missed"}`;
    console.log(`floor: ${name}, 2 threads, sandwich step at least ${floor} times torch's speed: ${found}`);
  }
  if (bytes !== null) {
    const [took, limit] = [bytes, MEMORY.limit].map((x) => `${(x / 2 ** 30).toFixed(2)} GiB`);
    console.log(`memory: a sandwich step of batch ${MEMORY.batch} takes ${took} of the arena's ${limit}`);
  }
}

const net = build(modelSpec(MODEL));
const inputs = await writeInputs(net);
const machine = watchMachine();
const sound = await prepare(inputs);
await measure(sound, net);
const bytes = await peakMemory(sound, inputs);
progress("");
for (const { worker } of sound) worker.close();

const outcome = {
  date: new Date().toISOString(),
  machine: machine(),
  versions: { node: process.versions.node, ...(torch.version && { torch: torch.version }) },
  network: { name: MODEL, madds: madds(net, topSlot(net)) },
  options: { threads: threadCounts, batch: BATCH, dropout: DROPOUT, visits },
  memory: { batch: MEMORY.batch, bytes },
  // Milliseconds a step, in the order of measurement; `off`: largest relative difference of a loss from the first runtime's.
  samples: sound.map(({ name, threads, off, samples }) => ({ runtime: name, threads, off, ...samples })),
};
const json = resultText(outcome);
writeFileSync(results, `${json}\n`);
if (flags.json) console.log(json);
else report(sound, bytes);
