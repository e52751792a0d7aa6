/** The recipes: complete but for the data, settings that make a network, and figures that were recorded. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { percent } from "../../bench/results/cells.js";
import { isWidth, readRecord, reported } from "../../bench/results/record.js";
import { loadConfig } from "../../src/cli/config.js";
import { tableOf } from "../../src/train/table.js";

describe("recipes", () => {
  for (const name of readdirSync("recipes")) {
    it(`${name} is a training that only lacks its data, and says how long it takes`, () => {
      const file = `recipes/${name}`;
      assert.throws(() => loadConfig({ file }), {
        message: "no data: give --data, or `data:` in the file of --config",
      });
      const config = loadConfig({ file, flags: { data: "images" } });
      assert.equal(tableOf(config).name, config.model);
      assert.match(readFileSync(file, "utf8"), /^# Time: .*\d+ (minutes|hours) on 2 cores/m);
    });

    if (name === "reduced.yaml") continue; // recorded with the ablations, as many trainings
    it(`${name} promises what was recorded`, () => {
      const rows = reported(readRecord(`results/${name.replace(".yaml", "")}`).figures);
      const [widest, dynamic] = [rows.findLast(isWidth)!, rows.find(({ what }) => what === "dynamic")!];
      const share = ((100 * dynamic.madds!) / widest.madds!).toFixed(1);
      const promise = `widest ${percent(widest.value)} %, dynamic ${percent(dynamic.value)} % at ${share} % of its MAdds`;
      assert.ok(readFileSync(`recipes/${name}`, "utf8").includes(`# Figures: ${promise}`), promise);
    });
  }
});
