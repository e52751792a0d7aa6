/** docs/RESULTS.md and its plots, made from the committed records and the notes beside them, and from nothing else. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { formatSeconds } from "../../src/cli/units.js";
import type { TrainConfig } from "../../src/train/config.js";
import { ABLATIONS, type Ablation, BASE, runOf, SUPERNET } from "./ablations.js";
import { aimsTable } from "./aims.js";
import { decided, interval, markdown, percent, spread } from "./cells.js";
import { ablationPlot, epochPlot, resultPlot } from "./plots.js";
import { type Images, isWidth, type Record, readRecord, reported } from "./record.js";
import { type OverSeeds, overSeeds } from "./seeds.js";

const ABLATION_FOLDER = "ablations";

/** Path below `docs/` → content. `recipe`: the ablations'. Notes are `notes.md` in `results` and in each record's folder. */
export function renderResults(results: string, recipe: TrainConfig): Map<string, string> {
  const files = new Map<string, string>();
  const folders = existsSync(results)
    ? readdirSync(results, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
        .sort()
    : [];
  const records = new Map(folders.map((name) => [name, readRecord(join(results, name))]));
  const trainings = new Map([...records].filter(([name]) => name !== ABLATION_FOLDER));
  const ablations = records.get(ABLATION_FOLDER);
  const parts = [
    "# Results\n",
    "Made by `npm run results` from the tables in `results/`: change those, or the notes beside them, not this page.\n",
  ];
  const add = (name: string, record: Record, section: string[]) =>
    parts.push(...section, ...notes(join(results, name)), runsTable(record));
  if (trainings.size > 0) parts.push(aimsTable(trainings));
  parts.push(...notes(results));
  for (const [name, record] of trainings) add(name, record, resultSection(name, record, files));
  if (ablations !== undefined) add(ABLATION_FOLDER, ablations, ablationSection(ablations, recipe, files));
  files.set("RESULTS.md", `${parts.join("\n").trimEnd()}\n`);
  return files;
}

function notes(folder: string): string[] {
  const file = join(folder, "notes.md");
  return existsSync(file) ? [`${readFileSync(file, "utf8").trimEnd()}\n`] : [];
}

// ---- one training

function resultSection(name: string, { figures, epochs }: Record, files: Map<string, string>): string[] {
  const at = (images: Images, what: string, run = "supernet") =>
    figures.find((f) => f.run === run && f.images === images && f.what === what);
  const rows = reported(figures).filter(({ madds }) => madds !== null);
  const widths = rows.filter(isWidth);
  const widest = widths.at(-1);
  if (widest === undefined) return [`## ${name}\n`, "No run is recorded.\n"];
  const table = markdown(
    ["what", "MAdds (M)", "% of widest", "top-1 %", "trained alone", "minus alone (points)"],
    rows.map((row) => {
      const alone = at("validation", "width 0", `${row.what} alone`);
      const mark = row.what === "dynamic" ? "**" : "";
      return [
        `${mark}${row.what === widest.what ? `${row.what}, the widest` : row.what}${mark}`,
        (row.madds! / 1e6).toFixed(3),
        ((100 * row.madds!) / widest.madds!).toFixed(1),
        `${mark}${percent(row.value)}${mark}`,
        percent(alone?.value),
        interval(at("validation", `${row.what} - alone`)),
      ];
    }),
  );
  files.set(`results/${name}.svg`, resultPlot(rows, at("validation", "dynamic - envelope") ?? null));
  if (epochs.length > 0) files.set(`results/${name}-epochs.svg`, epochPlot(epochs));
  const auc = (images: Images) =>
    ["gate", "confidence"].map((judge) => at(images, `${judge} AUC`)?.value?.toFixed(3) ?? "n/a").join(" and ");
  const value = (what: string) => at("validation", what)?.value;
  const [madds, time] = [value("saving in MAdds"), value("saving in time")];
  const ms = (what: string) => `${value(what)?.toFixed(3)} ms`;
  const facts = [
    `Dynamic minus the static envelope at its cost: ${interval(at("validation", "dynamic - envelope"))} points; minus the widest: ${interval(at("validation", "dynamic - widest"))} points.`,
    value("gap recovered") == null
      ? "The envelope is not below the widest: there is no gap to recover."
      : value("gap recovered")! < 0
        ? "It lies below the envelope: nothing of the gap to the widest is recovered."
        : `Of the gap between envelope and widest it recovers ${(100 * value("gap recovered")!).toFixed(1)} %.`,
    `AUC of the gate, and of the slimmest width's confidence, on easy against hard: ${auc("training")} on images the supernet was trained on, ${auc("held-out")} on those held out, which taught the gate, ${auc("validation")} on validation images.`,
    ...(madds == null || time == null
      ? []
      : [
          `One image at a time, in the data's order, native, one thread: ${ms("ms dynamic")} dynamic, ${ms("ms widest")} at the widest. That saves ${percent(time)} % of the time and ${percent(madds)} % of the MAdds: ${((100 * time) / madds).toFixed(1)} % of the saving arrives.`,
        ]),
  ];
  return [
    `## ${name}\n`,
    `${widest.n} validation images; intervals are 95 %, paired.\n`,
    table,
    ...(rows.some(({ what }) => at("validation", `${what} - alone`))
      ? ["Of two trainings, *minus alone* compares these weights: another seed of either would move it.\n"]
      : []),
    `![Top-1 against MAdds](results/${name}.svg)\n`,
    ...(epochs.length > 0 ? [`![Held-out top-1 by epoch](results/${name}-epochs.svg)\n`] : []),
    `${facts.map((line) => `- ${line}`).join("\n")}\n`,
  ];
}

// ---- ablations

function ablationSection(record: Record, recipe: TrainConfig, files: Map<string, string>): string[] {
  const over = (run: string, images: Images, what: string) =>
    overSeeds(
      record.figures.filter((f) => f.run === run && f.images === images && f.what === what).map((f) => f.value),
    );
  const parts = [
    "## Ablations\n",
    `Each variant differs from the recipe in what its name says. Mean ± standard deviation over seeds, of validation images where nothing else is said. *Unused*: training images that neither stage saw; defaults are chosen by these alone. Differences are in points. Time: of both stages on one thread, two runs at once; the recipe's are two runs, which both load the images and measure the result. *Minus the recipe*: the mean over seeds of the difference from the recipe's own run, with its 95 % interval (Student's t); in bold where that excludes 0, else these seeds do not decide it.\n`,
  ];
  const marks: Parameters<typeof ablationPlot>[0] = [];
  for (const ablation of ABLATIONS) {
    const rows = Object.keys(ablation.variants).map((variant) => {
      const run = runOf(ablation, variant, recipe);
      const { widths, slimmest, widest } = widthsOf(record, run);
      const madds = overSeeds(
        record.figures
          .filter((f) => f.run === run && f.images === "validation" && f.what === "dynamic")
          .map((f) => f.madds),
      );
      const lift = over(run, "validation", "dynamic - envelope");
      if (madds !== null && lift !== null && ablation.gateOnly && !marks.some((mark) => mark.run === run)) {
        marks.push({
          run,
          name: run === BASE ? "recipe" : `${ablation.key}: ${variant}`,
          madds: madds.mean,
          lift,
        });
      }
      const seconds = timeOf(record, run);
      return [
        variant,
        ...(ablation.gateOnly ? [] : [spread(slimmest), spread(widest), spread(widths)]),
        madds === null ? "" : (madds.mean / 1e6).toFixed(2),
        spread(over(run, "validation", "dynamic")),
        spread(over(run, "unused", "dynamic - envelope")),
        spread(lift),
        spread(over(run, "validation", "gate AUC"), 1, 3),
        run === BASE ? "" : decided(differences(record, run, ablation.judged)),
        ...(ablation.gateOnly ? [] : [seconds === null ? "not run" : formatSeconds(seconds.mean)]),
      ];
    });
    const header = [
      "variant",
      ...(ablation.gateOnly ? [] : ["slimmest top-1 %", "widest top-1 %", "mean of widths"]),
      ...["dynamic MAdds (M)", "dynamic top-1 %", "minus envelope, unused", "minus envelope, validation", "gate AUC"],
      `minus the recipe, unused: ${ablation.judged}`,
      ...(ablation.gateOnly ? [] : ["time"]),
    ];
    parts.push(`### ${ablation.title}\n`, markdown(header, rows));
  }
  if (marks.length > 0) {
    files.set(`results/${ABLATION_FOLDER}.svg`, ablationPlot(marks));
    parts.push(
      `![Dynamic minus envelope against MAdds, for the variants of stage II](results/${ABLATION_FOLDER}.svg)\n`,
    );
  }
  return parts;
}

/** Seconds of both stages over seeds; the recipe's stage I is a run of its own. */
function timeOf({ runs }: Record, run: string): OverSeeds | null {
  const seconds = (name: string) => runs.filter((r) => r.run === name);
  const before = (seed: number) => seconds(SUPERNET).find((r) => r.seed === seed)?.seconds ?? 0;
  return overSeeds(seconds(run).map((r) => r.seconds + (run === BASE ? before(r.seed) : 0)));
}

/** Top-1 over seeds of the slimmest and widest numbered width, and of the mean of all. */
function widthsOf(record: Record, run: string) {
  const bySeed = seedsOf(record, run).map((seed) => widthAccuracies(record, run, "validation", seed));
  return {
    slimmest: overSeeds(bySeed.map((list) => list[0])),
    widest: overSeeds(bySeed.map((list) => list.at(-1))),
    widths: overSeeds(bySeed.map(mean)),
  };
}

function widthAccuracies({ figures }: Record, run: string, images: Images, seed: number): number[] {
  return figures
    .filter((f) => f.run === run && f.seed === seed && f.images === images && isWidth(f))
    .map((f) => f.value!);
}

/** A run against the recipe's, seed by seed, on the images by which defaults are chosen. */
function differences(record: Record, run: string, judged: Ablation["judged"]): OverSeeds | null {
  const images = "unused";
  const value = (of: string, seed: number) =>
    judged === "mean of widths"
      ? mean(widthAccuracies(record, of, images, seed))
      : record.figures.find((f) => f.run === of && f.seed === seed && f.images === images && f.what === judged)?.value;
  return overSeeds(
    seedsOf(record, run).map((seed) => {
      const [a, b] = [value(run, seed), value(BASE, seed)];
      return a == null || b == null ? null : a - b;
    }),
  );
}

const seedsOf = ({ runs }: Record, run: string) => runs.filter((r) => r.run === run).map((r) => r.seed);

function mean(list: readonly number[]): number | null {
  return list.length === 0 ? null : list.reduce((a, b) => a + b, 0) / list.length;
}

function runsTable({ runs }: Record): string {
  const rows = runs.map((r) => [
    ...[r.run, String(r.seed), formatSeconds(r.seconds), `\`${r.commit}\``, r.kernels, `\`${r.command}\``],
  ]);
  const table = markdown(["run", "seed", "time", "recorded by", "kernels", "command"], rows);
  return `<details><summary>Runs: seed, time, the commit that recorded them, command</summary>\n\n${table}\n</details>\n`;
}
