/**
 * Measures a record's times anew, where kernels or machine have changed since: of the model as it is shipped, all else stays.
 *
 *     npm run build && node dist/bench/results/record-times.js models/fashion.safetensors --data ../shared/data/fashion-mnist
 *         --record results/fashion [--passes 21]
 *
 * Needs the native kernels, and a machine with nothing else to do.
 */

import "../plain-errors.js";
import { parseArgs } from "node:util";
import { UsageError } from "../../src/errors.js";
import { addToRecord, readRecord } from "./record.js";
import { passesOf, timesOf } from "./times.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: "string" },
    record: { type: "string" },
    passes: { type: "string", default: "21" },
  },
});
const [model] = positionals;
const { data, record } = values;
if (model === undefined || data === undefined || record === undefined) {
  throw new UsageError("expected a model, its --data and the folder of its --record");
}
const passes = passesOf(values.passes);
const { runs, figures } = readRecord(record);
const run = runs.find((r) => r.run === "supernet");
if (run === undefined) throw new UsageError(`${record}: expected the record of a training; see record-run.ts`);

const times = await timesOf(model, data, passes, figures);
const kept = figures.filter((f) => f.run === run.run && !times.some(({ what }) => what === f.what));
await addToRecord(record, run, [...kept, ...times]);
for (const { what, value } of times) console.log(`${what.padEnd(16)} ${value!.toFixed(4)}`);
