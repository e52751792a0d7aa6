/** docs/RESULTS.md is what the records say, and says it right. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ABLATIONS, BASE, plannedRuns, runOf, SUPERNET } from "../../bench/results/ablations.js";
import { renderResults } from "../../bench/results/page.js";
import {
  addToRecord,
  type Figure,
  flagsFrom,
  type Images,
  type Run,
  readRecord,
  settingsHash,
} from "../../bench/results/record.js";
import { overSeeds } from "../../bench/results/seeds.js";
import { loadConfig } from "../../src/cli/config.js";

const scratch = mkdtempSync(join(tmpdir(), "dsnet-results-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const recipe = loadConfig({ file: "recipes/reduced.yaml", flags: { data: "-" } });

const run = (name: string, seed = 0): Run => ({
  ...{ run: name, seed, settings: "00000000", seconds: 90, commit: "abc", kernels: "native" },
  command: `dsnet train --seed ${seed}`,
});
const figure = (what: string, value: number, more: Partial<Figure> = {}): Figure => ({
  ...{ run: "supernet", seed: 0, images: "validation", what, madds: null, value, low: null, high: null, n: 100 },
  ...more,
});

describe("docs/RESULTS.md", () => {
  it("is up to date with the records and notes in results/", () => {
    const files = renderResults("results", recipe);
    for (const [name, content] of files) {
      assert.equal(readFileSync(join("docs", name), "utf8"), content, `${name}: run npm run results`);
    }
    const plots = existsSync("docs/results") ? readdirSync("docs/results") : [];
    assert.deepEqual(
      plots.filter((name) => !files.has(`results/${name}`)),
      [],
      "plots of records that are gone",
    );
  });

  it("has the aims, a training's table, facts, plot, runs and notes", async () => {
    const results = join(scratch, "main");
    await addToRecord(join(results, "tiny"), run("width 1 alone"), [
      figure("width 0", 0.91, { run: "width 1 alone", madds: 4e6 }),
    ]);
    await addToRecord(join(results, "tiny"), run("supernet"), [
      figure("width 0", 0.8, { madds: 1e6 }),
      figure("width 1", 0.9, { madds: 4e6 }),
      figure("dynamic", 0.88, { madds: 2e6 }),
      figure("envelope", 0.83, { madds: 2e6 }),
      figure("dynamic - envelope", 0.05, { low: 0.01, high: 0.09 }),
      figure("dynamic - widest", -0.02, { low: -0.05, high: 0.01 }),
      figure("gap recovered", 0.714),
      figure("gate AUC", 0.7),
      figure("confidence AUC", 0.9),
      figure("gate AUC", 0.6, { images: "training" }),
      figure("width 1 - alone", -0.01, { low: -0.03, high: 0.01 }),
      figure("ms dynamic", 0.11),
      figure("ms widest", 0.2),
      figure("saving in MAdds", 0.5),
      figure("saving in time", 0.45),
    ]);
    writeFileSync(join(results, "tiny", "notes.md"), "What failed: nothing.\n");
    const log = "stage,epoch,top1_0,top1_1,top1_dynamic\nsupernet,1,0.5,0.6,\nsupernet,2,0.7,0.75,\ngate,1,,,0.7\n";
    writeFileSync(join(results, "tiny", "epochs.csv"), log);
    const files = renderResults(results, recipe);
    const page = files.get("RESULTS.md")!;
    for (const line of [
      "| aim | tiny |",
      "| widest: top-1 % | not measured |",
      "| dynamic: at most a third of the widest's MAdds | 50.0 %: **missed** |",
      "| dynamic: at least 60 % of the gap between envelope and widest | 71.4 %: met |",
      "| dynamic minus envelope: above 0, paired 95 % interval too | +5.00 [+1.00, +9.00]: met |",
      "| dynamic minus widest: at least -0.3 points | -2.00 [-5.00, +1.00]: **missed** |",
      "| slimmest, middle, widest minus the same trained alone: at least -1.0 point each | not measured |",
      "| saving in time: at least 90 % of the saving in MAdds | 90.0 %: met |",
      "| width 0 | 1.000 | 25.0 | 80.00 |  |  |",
      "| width 1, the widest | 4.000 | 100.0 | 90.00 | 91.00 | -1.00 [-3.00, +1.00] |",
      "| **dynamic** | 2.000 | 50.0 | **88.00** |  |  |",
      "- Dynamic minus the static envelope at its cost: +5.00 [+1.00, +9.00] points; minus the widest: -2.00 [-5.00, +1.00] points.",
      "- Of the gap between envelope and widest it recovers 71.4 %.",
      "What failed: nothing.",
      "| supernet | 0 | 1:30 | `abc` | native | `dsnet train --seed 0` |",
    ]) {
      assert.ok(page.split("\n").includes(line), `${line}\nin\n${page}`);
    }
    assert.match(
      page,
      /on easy against hard: 0\.600 and n\/a on images .* n\/a and n\/a on those held out, .* 0\.700 and 0\.900 on/,
    );
    assert.match(page, /saves 45\.00 % of the time and 50\.00 % of the MAdds: 90\.0 % of the saving arrives/);
    assert.match(files.get("results/tiny.svg")!, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" .*data-points="3"/);
    assert.match(files.get("results/tiny-epochs.svg")!, /data-points="4".*<title>width 1, epoch 2: 75<\/title>/);
  });

  it("gives an ablation's mean and deviation over seeds, and marks what they decide", async () => {
    const folder = join(scratch, "sweep", "ablations");
    const norm = ABLATIONS.find(({ key }) => key === "norm")!;
    const other = runOf(norm, "group norm", recipe);
    for (const seed of [0, 1, 2]) {
      await addToRecord(folder, run(SUPERNET, seed), []);
      for (const [name, lower] of [
        [BASE, 0],
        [other, 0.1 + seed / 1000],
      ] as const) {
        const widths = (images: Images, less: number) => [
          figure("width 0", 0.8 + seed / 100 - less, { run: name, seed, images, madds: 1e6 }),
          figure("width 1", 0.9 + seed / 100 - less, { run: name, seed, images, madds: 4e6 }),
        ];
        await addToRecord(folder, run(name, seed), [...widths("validation", 0), ...widths("unused", lower)]);
      }
    }
    const page = renderResults(join(scratch, "sweep"), recipe).get("RESULTS.md")!;
    const row = (start: string) => page.split("\n").find((line) => line.startsWith(`| ${start} |`))!;
    // 80, 81, 82 has the deviation 1; the recipe's stage I and stage II took 90 s each.
    assert.match(
      row("batch norm per width"),
      /^\| [^|]+ \| 81\.00 ± 1\.00 \| 91\.00 ± 1\.00 \| 86\.00 ± 1\.00 \|.*\| {2}\| 3:00 \|$/,
    );
    // Unused images decide. -10, -10.1, -10.2: deviation 0.1, times t = 4.303, over the root of 3.
    assert.match(row("group norm"), /\| \*\*-10\.10 ± 0\.25\*\* \| 1:30 \|$/);
    assert.match(row("in-place distillation"), /\| not run \|$/);
  });
});

describe("a record", () => {
  it("holds each run of each seed once, as it was last written", async () => {
    const folder = join(scratch, "record");
    await addToRecord(folder, run("a"), [figure("x", 0.123456789, { run: "a", low: -1 / 3 })]);
    await addToRecord(folder, run("a", 1), [figure("x", 2, { run: "a", seed: 1 })]);
    await addToRecord(folder, { ...run("a"), command: 'with "quotes", and commas' }, [figure("y", 3, { run: "a" })]);
    const { runs, figures } = readRecord(folder);
    assert.deepEqual(runs, [run("a", 1), { ...run("a"), command: 'with "quotes", and commas' }]);
    assert.deepEqual(
      figures.map(({ seed, what, value }) => [seed, what, value]),
      [
        [1, "x", 2],
        [0, "y", 3],
      ],
    );
  });

  it("tells runs of other settings apart, wherever they are computed", () => {
    assert.equal(settingsHash({ ...recipe, threads: 7, output: "elsewhere" }), settingsHash(recipe));
    assert.notEqual(settingsHash({ ...recipe, gate: { ...recipe.gate, views: 99 } }), settingsHash(recipe));
    assert.deepEqual(flagsFrom(recipe, { ...recipe, subset: null, gate: { ...recipe.gate, task_weight: 2 } }), [
      "--subset",
      "none",
      "--gate.task-weight",
      "2",
    ]);
  });
});

describe("the ablations", () => {
  it("plan every variant's run once, as settings that a training takes, a supernet before what starts from it", () => {
    const runs = plannedRuns(recipe);
    const names = runs.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const ablation of ABLATIONS) {
      const own = Object.keys(ablation.variants).map((variant) => runOf(ablation, variant, recipe));
      assert.equal(new Set(own).size, own.length);
      assert.ok(own.includes(BASE), `${ablation.title}: the recipe is one of the variants`);
      for (const name of own) assert.ok(names.includes(name));
    }
    for (const { settings, from } of runs) {
      loadConfig({ file: "recipes/reduced.yaml", flags: { data: "-", ...settings } });
      if (from) assert.equal(settings.epochs, "0");
    }
    assert.equal(names[0], SUPERNET);
  });

  it("give means, deviations and intervals", () => {
    assert.equal(overSeeds([null, undefined]), null);
    const three = overSeeds([1, 2, 3, null])!;
    assert.deepEqual([three.mean, three.deviation, three.seeds], [2, 1, 3]);
    assert.ok(Math.abs(three.half - 2.484) < 1e-3);
  });
});
