/**
 * What it takes to be ready: a model's bytes to a network with all widths planned and the first image classified.
 *
 *     npm run build && node dist/bench/start.js [--model ds_mbnet] [--runs 5] [--device native] [--json]
 *
 * Random weights. Each run is a process of its own; medians are printed. `load`: decode, pack, plan; the file is in memory.
 */
import "./plain-errors.js";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openBackend } from "../src/backend/open.js";
import { quantile } from "../src/engine/timing.js";
import { load } from "../src/index.js";
import { encodeModel } from "../src/io/model-file.js";
import { build, topSlot } from "../src/models/build.js";
import { modelSpec } from "../src/models/registry.js";
import { allocSpan, initState, writeState } from "../src/models/state.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "ds_mbnet" },
    runs: { type: "string", default: "5" },
    device: { type: "string", default: "auto" },
    json: { type: "boolean", default: false },
    file: { type: "string" },
  },
});

interface Started {
  kernels: string;
  /** Milliseconds; `cpu`: of processor time for both, which a busy machine lengthens less. */
  load: number;
  first: number;
  cpu: number;
  /** Bytes that resident memory rose by at most, the file's own included. */
  memory: number;
}

/** What one run does, in its process. */
async function start(file: string): Promise<Started> {
  const before = process.memoryUsage.rss();
  const bytes = new Uint8Array(readFileSync(file));
  const used = process.cpuUsage();
  const began = performance.now();
  const network = await load(bytes, { device: values.device as "auto", threads: 1 });
  const loaded = performance.now();
  const { height, width, channels } = network.model.spec.input;
  network.run(new Float32Array(height * width * channels)); // makes the plan of all widths
  const ended = performance.now();
  const { user, system } = process.cpuUsage(used);
  const { name, isa } = network.device;
  return {
    kernels: `${name}-${isa}`,
    load: loaded - began,
    first: ended - loaded,
    cpu: (user + system) / 1000,
    memory: process.resourceUsage().maxRSS * 1024 - before,
  };
}

/** A model file with random weights. */
async function write(file: string): Promise<void> {
  const spec = modelSpec(values.model);
  const net = build(spec);
  const backend = await openBackend({ threads: 1 });
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  const { height, width, channels } = spec.input;
  const numbered = Array.from({ length: net.widths }, (_, k) => k);
  const top = topSlot(net);
  const bytes = encodeModel({
    model: { name: values.model, spec },
    classes: Array.from({ length: spec.classes }, (_, c) => String(c)),
    preprocessing: {
      ...{ height, width, channels, interpolation: "bicubic", cropPct: 1 },
      ...{ mean: Array(channels).fill(0.5), std: Array(channels).fill(0.25) },
    },
    candidates: [...net.gates[0]!.candidates],
    calibrated: top === "largest" ? [...numbered, top] : numbered,
    tensors: writeState(backend, net, span),
  });
  writeFileSync(file, bytes);
  backend.dispose();
}

if (values.file !== undefined) {
  console.log(JSON.stringify(await start(values.file)));
  process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "dsnet-start-"));
try {
  const file = join(folder, "model.safetensors");
  await write(file);
  const args = [fileURLToPath(import.meta.url), "--file", file, "--device", values.device];
  const runs = Array.from(
    { length: Number(values.runs) },
    () => JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as Started,
  );
  const median = (key: "load" | "first" | "cpu" | "memory") =>
    quantile(
      runs.map((run) => run[key]),
      0.5,
    );
  const result = {
    ...{ model: values.model, kernels: runs[0]!.kernels, runs: runs.length },
    ...{ load: median("load"), first: median("first"), cpu: median("cpu"), memory: median("memory") },
  };
  if (values.json) console.log(JSON.stringify(result));
  else {
    console.log(`${result.model}, ${result.kernels}, median of ${result.runs} processes`);
    console.log(`load          ${result.load.toFixed(1).padStart(7)} ms`);
    console.log(`plan, image   ${result.first.toFixed(1).padStart(7)} ms`);
    console.log(`both          ${(result.load + result.first).toFixed(1).padStart(7)} ms   asked for: under 150`);
    console.log(`processor     ${result.cpu.toFixed(1).padStart(7)} ms`);
    console.log(
      `memory added  ${(result.memory / 1e6).toFixed(1).padStart(7)} MB   asked for: under 80; the file's bytes are counted too`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);
