/**
 * What a second thread gains at batch 1, beside what this machine has to give: two engines of one thread each at once.
 *
 *     npm run build && node dist/bench/threads.js [--model ds_mbnet] [--widths 0,7,13] [--rounds 12] [--device native] [--json]
 *
 * Three processes with random weights: two of one thread, one of two. Every round asks for each width in turns. `gain` is the ratio
 * of median milliseconds of an image; `after idle`, of single calls with gaps between them; `two engines`, how many times the
 * images of one engine the two of one thread make together, which share no work and wait for nobody. Two threads hand each other
 * what they computed, so how far apart their cores are decides what they gain: `round trip` is how long a number takes from one to
 * the other and back. About 100 ns is one core complex, 400 ns another's; a virtual machine's cores may move while it runs.
 */
import "./plain-errors.js";
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { openBackend } from "../src/backend/open.js";
import { table } from "../src/cli/table.js";
import { Plan } from "../src/engine/plan.js";
import { quantile } from "../src/engine/timing.js";
import { build } from "../src/models/build.js";
import { modelSpec } from "../src/models/registry.js";
import { allocSpan, initState } from "../src/models/state.js";
import { Philox } from "../src/random/philox.js";

/** Of calls back to back. */
const WINDOW_MS = 200;
/** Between calls after idle, and before a process is asked: workers have gone to sleep. */
const GAP_MS = 10;
const CALLS_AFTER_IDLE = 10;

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "ds_mbnet" },
    widths: { type: "string", default: "0,7,13" },
    rounds: { type: "string", default: "12" },
    device: { type: "string", default: "auto" },
    json: { type: "boolean", default: false },
    serve: { type: "string" },
  },
});

interface Request {
  width: number;
  idle: boolean;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A process's part: an engine that answers each request with the milliseconds of its calls. */
async function serve(threads: number): Promise<void> {
  const backend = await openBackend({ device: values.device as "auto", threads });
  const net = build(modelSpec(values.model));
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  const plan = new Plan(backend, net, span, { batch: 1 });
  const { height, width, channels } = net.spec.input;
  const random = new Philox(0, "bench");
  for (let i = 0; i < height * width * channels; i++) backend.f32[plan.input / 4 + i] = random.normal();
  const call = (slot: number) => {
    const began = performance.now();
    plan.run(1, slot);
    return performance.now() - began;
  };
  process.on("message", async ({ width: slot, idle }: Request) => {
    const times: number[] = [];
    if (idle) {
      for (let i = 0; i < CALLS_AFTER_IDLE; i++) {
        await sleep(GAP_MS);
        times.push(call(slot));
      }
    } else {
      const end = performance.now() + WINDOW_MS;
      while (performance.now() < end) times.push(call(slot));
    }
    process.send!(times);
  });
  process.send!(backend.build);
}

class Engine {
  private constructor(
    private readonly child: ChildProcess,
    readonly kernels: string,
  ) {}

  static async start(threads: number): Promise<Engine> {
    const args = ["--serve", String(threads), "--model", values.model, "--device", values.device];
    const child = fork(fileURLToPath(import.meta.url), args);
    return new Engine(child, await Engine.#answer<string>(child));
  }

  ask(request: Request): Promise<number[]> {
    const answer = Engine.#answer<number[]>(this.child);
    this.child.send(request);
    return answer;
  }

  stop(): void {
    this.child.kill();
  }

  static #answer<T>(child: ChildProcess): Promise<T> {
    return new Promise((resolve, reject) => {
      child.once("exit", () => reject(new Error("an engine's process ended before it answered")));
      child.once("message", (message) => {
        child.removeAllListeners("exit");
        resolve(message as T);
      });
    });
  }
}

/** Counts up from odd to even as soon as it sees an odd number; ends at a negative one. */
const ECHO = `
const cell = require("node:worker_threads").workerData;
for (let seen = 0; seen >= 0; seen = Atomics.load(cell, 0)) if (seen % 2 === 1) Atomics.store(cell, 0, seen + 1);`;

/** Nanoseconds that a number takes to another core and back. */
async function roundTrip(): Promise<number> {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(ECHO, { eval: true, workerData: cell });
  const trips = (count: number) => {
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      const odd = Atomics.load(cell, 0) + 1;
      Atomics.store(cell, 0, odd);
      while (Atomics.load(cell, 0) === odd);
    }
    return ((performance.now() - began) / count) * 1e6;
  };
  await new Promise((resolve) => worker.once("online", resolve));
  trips(20_000);
  const ns = trips(50_000);
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  Atomics.store(cell, 0, -1);
  await ended;
  return ns;
}

if (values.serve !== undefined) {
  await serve(Number(values.serve));
} else {
  const [one, twin, two] = await Promise.all([Engine.start(1), Engine.start(1), Engine.start(2)]);
  const widths = values.widths.split(",").map(Number);
  const samples = widths.map(() => ({
    ...{ one: [] as number[], two: [] as number[], oneIdle: [] as number[], twoIdle: [] as number[] },
    engines: [] as number[],
  }));
  const trips: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    trips.push(await roundTrip());
    for (const [i, width] of widths.entries()) {
      const kept = samples[i]!;
      const alone = await one.ask({ width, idle: false });
      kept.one.push(...alone);
      await sleep(GAP_MS);
      kept.two.push(...(await two.ask({ width, idle: false })));
      await sleep(GAP_MS);
      const together = await Promise.all([one, twin].map((engine) => engine.ask({ width, idle: false })));
      kept.engines.push((together[0]!.length + together[1]!.length) / alone.length);
      kept.oneIdle.push(...(await one.ask({ width, idle: true })));
      kept.twoIdle.push(...(await two.ask({ width, idle: true })));
    }
  }
  for (const engine of [one, twin, two]) engine.stop();
  const median = (list: number[]) => quantile(list, 0.5);
  const rows = samples.map(({ one, two, oneIdle, twoIdle, engines }, i) => ({
    width: widths[i]!,
    ...{ one: median(one), two: median(two), gain: median(one) / median(two) },
    ...{ oneIdle: median(oneIdle), twoIdle: median(twoIdle), gainIdle: median(oneIdle) / median(twoIdle) },
    engines: median(engines),
  }));
  if (values.json) console.log(JSON.stringify({ model: values.model, kernels: one.kernels, trips, rows }));
  else {
    const titles = ["width", "1 thread, ms", "2 threads", "gain", "after idle: 1", "2", "gain", "two engines"];
    console.log(`${values.model}, ${one.kernels}, batch 1; ${values.rounds} rounds`);
    const [least, usual, most] = [0, 0.5, 1].map((q) => quantile(trips, q).toFixed(0));
    console.log(`round trip between cores ${usual} ns (${least} to ${most})`);
    const cells = rows.map(({ width, ...figures }) => [
      String(width),
      ...Object.values(figures).map((figure) => figure.toFixed(2)),
    ]);
    const columns = titles.map((title) => ({ title, align: "right" as const }));
    console.log(table(columns, cells));
  }
}
