import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import type { TrainConfig } from "../../src/train/config.js";
import type { TrainEvent } from "../../src/train/events.js";
import { GATE_SET } from "../../src/train/kept-gate-set-node.js";
import { temporaryFolder } from "../data/support.js";
import { finish, remains, smallConfig, writeImages } from "./small-run.js";

describe("a run's gate set", () => {
  const folder = temporaryFolder();
  const data = writeImages(join(folder, "data"));
  const first = smallConfig(data, join(folder, "first"), "probability");
  const computed = (events: readonly TrainEvent[]) =>
    events.some((event) => event.type === "phase" && event.name === "gate features");
  /** A new run in whose folder a gate set already lies. */
  const begun = (name: string, put: (file: string) => void): TrainConfig => {
    const output = join(folder, name);
    mkdirSync(output);
    put(join(output, GATE_SET));
    return { ...first, output };
  };
  const copied = (file: string) => copyFileSync(join(first.output, GATE_SET), file);

  before(async () => assert.ok(computed((await finish(first)).events)));

  it("serves another run on the same supernet, which ends the same", async () => {
    const config = begun("same", copied);
    assert.ok(!computed((await finish(config)).events));
    assert.deepEqual(remains(config.output), remains(first.output));
  });

  it("is made anew where the run needs another", async () => {
    const config = begun("other", copied);
    assert.ok(computed((await finish({ ...config, gate: { ...config.gate, views: config.gate.views + 1 } })).events));
  });

  for (const [what, put] of [
    ["no such file", (file: string) => copyFileSync(join(first.output, "results.csv"), file)],
    ["empty", (file: string) => writeFileSync(file, "")],
  ] as const) {
    it(`is made anew where it is ${what}`, async () => {
      const config = begun(what.replaceAll(" ", "-"), put);
      assert.ok(computed((await finish(config)).events));
      assert.deepEqual(remains(config.output), remains(first.output));
    });
  }
});
