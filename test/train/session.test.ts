import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { readModelFile } from "../../src/io/model-file-node.js";
import type { TrainConfig } from "../../src/train/config.js";
import type { TrainEvent } from "../../src/train/events.js";
import { train } from "../../src/train/train-node.js";
import { val } from "../../src/train/val-node.js";
import { smallConfig, writeImages } from "./small-run.js";

const scratch = mkdtempSync(join(tmpdir(), "dsnet-session-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const data = writeImages(join(scratch, "data"));

let runs = 0;
/** A quick run; `gate` changes its gate's settings, `more` the others. */
function configOf(gate: Partial<TrainConfig["gate"]>, more: Partial<TrainConfig> = {}): TrainConfig {
  const config = smallConfig(data, join(scratch, `run${runs++}`), "probability");
  return { ...config, epochs: 1, recalibration_batches: 1, ...more, gate: { ...config.gate, epochs: 1, ...gate } };
}

describe("a run that cannot begin", () => {
  it("says why, and leaves its folder free for another try", async () => {
    const wrong: [TrainConfig, RegExp][] = [
      [configOf({ target_madds: 1 }), /gate\.target_madds: expected \d+ to \d+/],
      [configOf({ target_madds: 1e12 }), /gate\.target_madds: expected \d+ to \d+/],
      [configOf({ candidates: [0, 6] }), /candidates: expected ascending widths 0\.\.5/],
      [configOf({ holdout: 0.001 }), /holding out 0\.001 .* leaves 120 and 0 images/],
      [configOf({}, { data: join(scratch, "nowhere") }), /nowhere/],
    ];
    for (const [config, message] of wrong) {
      await assert.rejects(train(config), message);
      assert.ok(!existsSync(config.output));
    }
    const [config] = wrong[0]!;
    const { interrupted } = await train({ ...config, gate: { ...config.gate, target_madds: null } });
    assert.equal(interrupted, false);
  });
});

describe("a run without stage II", () => {
  it("trains no gate and says of its model that it has none", async () => {
    for (const method of ["probability", "expectation", "gumbel"] as const) {
      const config = configOf({ epochs: 0, method });
      const events: TrainEvent[] = [];
      const { model, evaluation } = await train(config, { onEvent: (event) => events.push(event) });
      assert.equal(evaluation!.dynamic, null);
      assert.deepEqual((await readModelFile(model)).candidates, []);
      assert.ok(!events.some((event) => event.type === "phase" && event.name === "gate features"));
    }
  });
});

describe("a run of one width alone", () => {
  it("trains a network of its own, which val evaluates", async () => {
    const { model, evaluation } = await train(configOf({}, { width: 1 }));
    const file = await readModelFile(model);
    assert.deepEqual([file.model.name, file.candidates], ["ds_mbnet_28_width_1", []]);
    assert.deepEqual(
      evaluation!.rows.map(({ kind }) => kind),
      ["width", "oracle"],
    );
    assert.deepEqual((await val(model, { data, threads: 1 })).rows[0], evaluation!.rows[0]);
  });
});

describe("a run without attention", () => {
  it("trains its gate too, by every method", async () => {
    for (const method of ["probability", "expectation", "gumbel"] as const) {
      const { evaluation } = await train(configOf({ method }, { attention: "off" }));
      assert.ok(evaluation!.dynamic !== null);
    }
  });
});

describe("a run with few images", () => {
  it("tells of a batch that is cut and of classes that are missing", async () => {
    const warnings: string[] = [];
    const config = configOf({ holdout: 0 }, { subset: 3, batch_size: 8 });
    await train(config, { onEvent: (event) => event.type === "warning" && warnings.push(event.message) });
    assert.ok(warnings.some((text) => /batch_size: 8 is more than the 3 training images/.test(text)));
    assert.ok(warnings.some((text) => /[123] of 4 classes are not among the 3 training images/.test(text)));
  });
});
