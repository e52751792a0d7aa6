/**
 * dsnet against what a user would pick instead, on the same networks with the same weights: `npm run bench:peers`, see --help.
 *
 * Every runtime is a process of its own that lives through the run. They take turns in shuffled order, one call at a time, so that
 * whatever disturbs the machine disturbs all; ratios are taken inside one run. All outputs are compared before anything is timed.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { platform, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { table } from "../../dist/src/cli/table.js";
import {
  findTorch,
  median,
  NO_TORCH,
  progress,
  readFlags,
  refuse,
  resultText,
  shuffled,
  title,
  watchMachine,
  wholeNumbers,
} from "./harness.mjs";
import { IMAGES, writeNets } from "./nets.mjs";
import { Worker } from "./worker.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const results = join(here, "results.json");
/** Of the largest logit. */
const TOLERANCE = 1e-4;

const HELP = `npm run bench:peers -- [options]

  --threads 1,2     thread counts (default: 1,2)
  --batch 1,8       images to a call (default: 1)
  --only a,b        runtimes and networks whose names hold one of these (default: all)
  --visits n        rounds through all runtimes and networks (default: 20)
  --json            results to stdout instead of tables; bench/peers/results.json has them in any case

Times are per image: a round makes one call to warm up and two that count. With 1 and 2 threads a second part measures what the
second thread gains, back to back and for single calls after the threads fell asleep.`;

const text = (value) => ({ type: "string", default: value });
const flags = readFlags(HELP, { threads: text("1,2"), batch: text("1"), only: text(""), visits: text("20") });
const [threadCounts, batches, [visits]] = ["threads", "batch", "visits"].map((name) => wholeNumbers(flags, name));
if (batches.some((batch) => IMAGES % batch !== 0)) {
  refuse(`--batch: expected divisors of ${IMAGES}, got ${flags.batch}`);
}
const wanted = flags.only === "" ? [] : flags.only.split(",");

function install() {
  const stamp = join(here, "node_modules", ".installed");
  const manifest = readFileSync(join(here, "package.json"), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === manifest) return;
  console.error("peers: npm install ...");
  // Without the variable onnxruntime-node fetches libraries for GPUs.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" };
  const args = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
  execFileSync("npm", args, { cwd: here, env, stdio: ["ignore", 2, 2], shell: platform() === "win32" });
  writeFileSync(stamp, manifest);
}

/** The runtimes, each at its thread counts; `skip`: why one cannot run here. */
function listRuntimes() {
  const node = (...args) => ({ command: process.execPath, args });
  const { python, version: torch } = findTorch();
  const version = (name) => JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8")).version;
  const own = JSON.parse(readFileSync(join(here, "../../package.json"), "utf8")).version;
  const list = threadCounts.flatMap((threads) => [
    { name: "dsnet native", version: own, threads, ...node("dsnet.mjs", "native", threads) },
    { name: "dsnet wasm", version: own, threads, ...node("dsnet.mjs", "wasm", threads) },
    ...["onnxruntime-node", "onnxruntime-web"].map((name) => ({
      ...{ name, version: version(name), threads },
      ...node("onnxruntime.mjs", name, threads),
    })),
    {
      ...{
        name: "torch",
        version: torch,
        threads,
        command: python,
        args: ["pytorch.py", threads],
      },
      skip: python === undefined && NO_TORCH,
      takes: ({ graph }) => graph !== null,
    },
  ]);
  if (threadCounts.includes(1)) {
    const tfjs = { version: version("@tensorflow/tfjs-backend-wasm"), threads: 1 };
    list.push(
      { name: "tfjs-wasm", ...tfjs, ...node("tfjs.mjs", "static"), takes: ({ graph }) => graph !== null },
      { name: "tfjs-wasm, sliced", ...tfjs, ...node("tfjs.mjs", "sliced"), takes: ({ slims }) => slims !== null },
    );
  }
  return list;
}

/** A dynamic network in ONNX takes one image. */
const canTake = (runtime, net, batch) =>
  (runtime.takes?.(net) ?? true) && (net.routes === null || batch === 1 || runtime.name.startsWith("dsnet"));

/** Those that --only names; all where it names none of them. */
function choose(list) {
  const chosen = list.filter(({ name }) => wanted.some((part) => name.includes(part)));
  return chosen.length > 0 ? chosen : list;
}

/** Loads every network in every runtime and compares the logits with the first's; returns the pairs that may be timed. */
async function prepare(runtimes, nets, images) {
  const pairs = [];
  for (const net of nets) {
    for (const batch of batches) {
      let expected = null;
      for (const runtime of runtimes.filter((runtime) => canTake(runtime, net, batch))) {
        progress(`loading ${net.name} in ${title(runtime)}`);
        const pair = { runtime, net, batch, ms: [] };
        try {
          await runtime.worker.ask({ op: "load", net, batch, images });
          const { logits } = await runtime.worker.ask({ op: "check", net, batch });
          expected ??= logits;
          pair.off = difference(logits, expected);
          if (!(pair.off <= TOLERANCE)) pair.error = `logits are off by ${pair.off.toExponential(1)} of the largest`;
        } catch (error) {
          pair.error = error.message;
        }
        pairs.push(pair);
      }
    }
  }
  return pairs;
}

/** Largest difference, as a share of the largest logit. */
function difference(logits, expected) {
  const [got, want] = [logits.flat(), expected.flat()];
  if (got.length !== want.length) return Number.NaN;
  const largest = want.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
  return got.reduce((top, x, i) => Math.max(top, Math.abs(x - want[i])), 0) / largest;
}

async function time({ runtime, net, batch }, from, n) {
  const { ms } = await runtime.worker.ask({ op: "run", net, batch, from, n });
  return ms.map((x) => x / batch);
}

async function measure(pairs) {
  for (let visit = 0; visit < visits; visit++) {
    progress(`measuring, round ${visit + 1} of ${visits}`);
    for (const pair of shuffled(pairs, visit)) pair.ms.push(...(await time(pair, visit * 2, 3)).slice(1));
  }
}

/** Calls back to back (the first four warm up), and single calls 20 ms apart, of runtimes that have 1 and 2 threads. */
async function measureThreads(pairs) {
  const both = pairs.filter(({ runtime, net, batch }) =>
    [1, 2].every((threads) => pairs.some((other) => isSame(other, runtime.name, threads, net, batch))),
  );
  for (const pair of both) Object.assign(pair, { backToBack: [], single: [] });
  for (let visit = 0; visit < Math.ceil(visits / 4); visit++) {
    progress(`measuring threads, round ${visit + 1} of ${Math.ceil(visits / 4)}`);
    for (const pair of shuffled(both, visit, "threads")) {
      pair.backToBack.push(...(await time(pair, 0, 12)).slice(4));
      for (let i = 0; i < 4; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        pair.single.push(...(await time(pair, i, 1)));
      }
    }
  }
  return both;
}

const isSame = (pair, name, threads, net, batch) =>
  pair.runtime.name === name && pair.runtime.threads === threads && pair.net === net && pair.batch === batch;
const least = (ms) => Math.min(...ms);

/** One table for a network and batch; the ratios are dsnet's median over the peer's at the same number of threads. */
function timeTable(pairs) {
  const columns = ["runtime", "threads", "min ms", "median ms", "GMAC/s", "native ÷ it", "wasm ÷ it"].map(
    (title, i) => ({
      ...{ title, align: i === 0 ? "left" : "right" },
    }),
  );
  const rows = pairs
    .toSorted((a, b) => a.runtime.threads - b.runtime.threads)
    .map(({ runtime: { name, threads }, net, batch, ms, error }) => {
      if (error !== undefined) return [name, String(threads), "failed"];
      const ratios = ["dsnet native", "dsnet wasm"].map((own) => {
        const ours = pairs.find((pair) => isSame(pair, own, threads, net, batch));
        if (name.startsWith("dsnet") || ours === undefined || ours.error !== undefined) return "";
        return (median(ours.ms) / median(ms)).toFixed(2);
      });
      const speed = (net.madds / median(ms) / 1e6).toFixed(1);
      return [name, String(threads), least(ms).toFixed(2), median(ms).toFixed(2), speed, ...ratios];
    });
  return table(columns, rows);
}

/** What a second thread gains: medians at one thread over medians at two. */
function threadTable(both) {
  const columns = ["network", "batch", "runtime", "back to back", "single calls"].map((title, i) => ({
    ...{ title, align: i === 0 || i === 2 ? "left" : "right" },
  }));
  const rows = both
    .filter(({ runtime }) => runtime.threads === 1)
    .map((one) => {
      const { runtime, net, batch } = one;
      const two = both.find((pair) => isSame(pair, runtime.name, 2, net, batch));
      const gain = (of) => `${(median(one[of]) / median(two[of])).toFixed(2)}×`;
      return [net.name, String(batch), runtime.name, gain("backToBack"), gain("single")];
    });
  return table(columns, rows);
}

function report(pairs, both) {
  for (const net of new Set(pairs.map((pair) => pair.net))) {
    for (const batch of batches) {
      const here = pairs.filter((pair) => pair.net === net && pair.batch === batch);
      if (here.length === 0) continue;
      console.log(`\n${net.name}, ${(net.madds / 1e6).toFixed(1)} M MAdds, batch ${batch}, per image`);
      console.log(timeTable(here));
    }
  }
  console.log(
    "\nnative ÷ it, wasm ÷ it: dsnet's median over this runtime's at as many threads; below 1 dsnet is faster",
  );
  if (both.length > 0) console.log(`\nTwo threads over one\n${threadTable(both)}`);
}

install();
const runtimes = listRuntimes();
const folder = mkdtempSync(join(tmpdir(), "dsnet-peers-"));
process.once("SIGINT", () => process.exit(130)); // workers end with their input
process.once("exit", () => rmSync(folder, { recursive: true }));

progress("writing the networks");
const allNets = await writeNets(folder);
for (const part of wanted) {
  if ([...runtimes, ...allNets].some(({ name }) => name.includes(part))) continue;
  refuse(`--only: no runtime or network is called "${part}"`);
}
const nets = choose(allNets);
const running = choose(runtimes).filter((runtime) => {
  if (runtime.skip) console.error(`${title(runtime)}: left out, ${runtime.skip}`);
  return !runtime.skip;
});
for (const runtime of running) runtime.worker = new Worker(runtime.command, runtime.args.map(String));
const machine = watchMachine();
const pairs = await prepare(running, nets, join(folder, "images.f32"));
const sound = pairs.filter(({ error }) => error === undefined);
await measure(sound);
const both = await measureThreads(sound);
progress("");
for (const { worker } of running) worker.close();

const outcome = {
  date: new Date().toISOString(),
  machine: machine(),
  versions: {
    node: process.versions.node,
    ...Object.fromEntries(running.map(({ name, version }) => [name, version])),
  },
  options: { threads: threadCounts, batch: batches, visits },
  networks: nets.map(({ name, madds, routes }) => ({ name, madds, ...(routes !== null && { routes }) })),
  // Milliseconds per image, in the order of measurement.
  samples: pairs.map(({ runtime: { name, threads }, net, batch, ...measured }) => ({
    ...{ runtime: name, threads, network: net.name, batch, ...measured },
  })),
};
const json = resultText(outcome);
writeFileSync(results, `${json}\n`);
if (flags.json) console.log(json);
else report(pairs, both);
for (const { runtime, net, error } of pairs) {
  if (error === undefined) continue;
  console.error(`${net.name} in ${title(runtime)}: ${error}`);
  process.exitCode = 1;
}
