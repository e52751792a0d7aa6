/**
 * What bf16 costs in accuracy and saves in time, on labelled images: every width, and the gate where there is one.
 *
 *     npm run build && node dist/bench/bf16.js --model runs/demo/best.safetensors --data mnist [--threads 1] [--json]
 *
 * Agreement: how often both give an image the same class. Milliseconds: one image, both precisions by turns, the best of many.
 */
import "./plain-errors.js";
import { parseArgs } from "node:util";
import type { Precision } from "../src/backend/backend.js";
import { table } from "../src/cli/table.js";
import { Plan } from "../src/engine/plan.js";
import { timeInTurns } from "../src/engine/timing.js";
import { UsageError } from "../src/errors.js";
import { type Measured, measure } from "../src/evaluate/measure.js";
import { routingOf } from "../src/io/model-file.js";
import { withLabelled } from "../src/train/labelled-node.js";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    data: { type: "string" },
    threads: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const { model, data } = values;
if (model === undefined || data === undefined) throw new UsageError("expected --model <file> --data <path>");
const threads = Number(values.threads);

interface Answers {
  what: string;
  correct: Uint8Array;
  /** Classes; null where they are not known: behind several gates. */
  predicted: ArrayLike<number> | null;
}

function answers({ widths, dynamic }: Measured, gates: number): Answers[] {
  const rows: Answers[] = widths.map(({ width, ...rest }) => ({ what: `width ${width}`, ...rest }));
  if (dynamic) {
    const chosen = Array.from(dynamic.choice, (k, i) => widths[k]!.predicted[i]!);
    rows.push({ what: "dynamic", correct: dynamic.correct, predicted: gates === 1 ? chosen : null });
  }
  return rows;
}

interface Run {
  rows: Answers[];
  /** An image at each width. */
  tasks: (() => void)[];
  weights: number;
}

/** Calls `use` with what a precision answers, while its backend is open. */
const inPrecision = <T>(precision: Precision, use: (run: Run) => Promise<T>): Promise<T> =>
  withLabelled(model, { data, device: "native", threads, precision }, async ({ file, net, backend, span, loader }) => {
    const routing = file.candidates.length > 0 ? routingOf(file) : undefined;
    const measured = await measure(backend, net, span, loader.inOrder(), { batch: loader.batchSize, routing });
    const plan = new Plan(backend, net, span, { batch: 1, dynamic: false });
    const tasks = measured.widths.map(
      ({ width }) =>
        () =>
          void plan.run(1, width),
    );
    return use({ rows: answers(measured, net.gates.length), tasks, weights: net.layout.floats * 4 });
  });

const percent = (part: ArrayLike<number>) => (100 * Array.from(part).reduce((a, b) => a + b, 0)) / part.length;
const same = (a: ArrayLike<number>, b: ArrayLike<number>) => percent(Array.from(a, (v, i) => (v === b[i] ? 1 : 0)));

const result = await inPrecision("fp32", (full) =>
  inPrecision("bf16", async (half) => {
    const times = timeInTurns([...full.tasks, ...half.tasks], { rounds: 100, sampleMs: 1 });
    const best = times.map((ms) => Math.min(...ms));
    const rows = full.rows.map(({ what, correct, predicted }, i) => {
      const other = half.rows[i]!;
      return {
        what,
        top1: { fp32: percent(correct), bf16: percent(other.correct) },
        agreement: predicted && other.predicted && same(predicted, other.predicted),
        ...(i < full.tasks.length && { ms: { fp32: best[i]!, bf16: best[full.tasks.length + i]! } }),
      };
    });
    return { images: full.rows[0]!.correct.length, weights: { fp32: full.weights, bf16: half.weights }, rows };
  }),
);

if (values.json) console.log(JSON.stringify({ model, data, threads, ...result }));
else {
  const columns = ["", "fp32 %", "bf16 %", "points", "agree %", "fp32 ms", "bf16 ms", "faster"];
  const rows = result.rows.map(({ what, top1, agreement, ms }) => [
    what,
    ...[top1.fp32, top1.bf16, top1.bf16 - top1.fp32].map((v) => v.toFixed(2)),
    agreement?.toFixed(2) ?? "",
    ...(ms ? [ms.fp32.toFixed(4), ms.bf16.toFixed(4), `${(ms.fp32 / ms.bf16).toFixed(2)}×`] : []),
  ]);
  const titles = columns.map((title, i) => (i === 0 ? { title } : { title, align: "right" as const }));
  const { fp32, bf16 } = result.weights;
  console.log(table(titles, rows));
  console.log(`\n${result.images} images, ${threads} thread(s); weights ${fp32} bytes in fp32, ${bf16} in bf16`);
  console.log("asked for: agreement at least 99.5 %, accuracy within 0.1 points");
}
process.exit(0);
