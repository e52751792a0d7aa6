/**
 * Kills small trainings at random moments, resumes them, and compares what they leave with an undisturbed run, bit by bit:
 * `node scripts/kill-test.mjs --kills 20`. Threads and data workers change at every start. The test suite does a few kills; this
 * does as many as asked for with each form of stage II, over both stages.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { setup } from "./setup.mjs";

const { values } = parseArgs({ options: { kills: { type: "string", default: "20" } } });
const wanted = Number(values.kills);
if (!Number.isInteger(wanted) || wanted < 1) {
  console.error(`--kills: expected a whole number ≥ 1, got ${values.kills}`);
  process.exit(2);
}
await setup();
const { finish, killed, METHODS, remains, smallConfig, writeImages } = await import("../dist/test/train/small-run.js");

const folder = mkdtempSync(join(tmpdir(), "dsnet-kill-"));
const data = writeImages(join(folder, "data"));
const pick = (list) => list[Math.floor(Math.random() * list.length)];
let different = 0;

for (const method of METHODS) {
  const undisturbed = smallConfig(data, join(folder, method), method);
  const { events } = await finish(undisturbed);
  const expected = remains(undisturbed.output);
  const hits = {};
  let runs = 0;
  for (let kills = 0; kills < wanted; ) {
    const config = smallConfig(data, join(folder, `${method}-${runs++}`), method);
    for (let alive = true; alive && kills < wanted; ) {
      const flags = ["--threads", pick(["1", "2"]), "--workers", pick(["0", "1", "2"])];
      const last = await killed(config, Math.ceil((Math.random() * events.length) / 3), Math.random() * 60, flags);
      if (last === undefined) {
        alive = false;
      } else {
        kills++;
        const where = last.stage ?? last.name ?? last.type;
        hits[where] = (hits[where] ?? 0) + 1;
      }
    }
    await finish(config);
    const left = remains(config.output);
    const wrong = Object.keys(expected).filter((name) => !isDeepStrictEqual(left[name], expected[name]));
    if (wrong.length === 0) continue;
    different++;
    console.error(`${config.output} differs: ${wrong.join(", ")}`);
  }
  const places = Object.entries(hits).map(([where, count]) => `${where} ${count}`);
  console.log(`${method}: ${wanted} kills in ${runs} runs (last heard of: ${places.join(", ")})`);
}
console.log(different === 0 ? "every run left the same files, bit by bit" : `${different} runs differ, see ${folder}`);
if (different === 0) rmSync(folder, { recursive: true });
process.exitCode = different === 0 ? 0 : 1;
