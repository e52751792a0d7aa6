/** The recipes: complete but for the data, and settings that make a network. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
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
  }
});
