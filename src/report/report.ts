/**
 * `report.html`: one file that shows a run, from its losses to the honest table. It needs no network, no script and no
 * other file; everything that came from a user is escaped.
 */
import { UsageError } from "../errors.js";
import type { Benchmark } from "../evaluate/benchmark.js";
import type { Evaluation, RowKind } from "../evaluate/evaluate.js";
import { HONEST_COLUMNS, honestCells, rowName, sentences } from "../evaluate/table.js";
import { hue, widthColour, widthInk } from "./colours.js";
import { absent, dataTable, definitions, figure, page, section } from "./page.js";
import { linePlot, type Mark, type Series, scatterPlot, stackedBars } from "./plots.js";
import { escapeHtml } from "./svg.js";
import { timeSection } from "./time.js";

export interface Epoch {
  /** Stage I or stage II. */
  stage: "supernet" | "gate";
  epoch: number;
  /** By pass or by term: `largest`, `smallest`, ... or `task`, `cost`, ... */
  loss: Record<string, number>;
  /**
   * Top-1 as a fraction, by width number or name (`dynamic`): in stage I of training images that are held out (where none are, of those
   * it learns from), in stage II of the images that teach the gate.
   */
  accuracy?: Record<string, number>;
}

export interface Example {
  /** A PNG, JPEG or WebP as `data:image/...;base64,...`. */
  dataUrl: string;
  label: string;
  predicted: string;
  /** Number of the width that the image took. */
  width: number;
}

export interface ReportData {
  title: string;
  /** Shown at the top, in this order: model, data, seed, kernel build, time, date, ... */
  facts: [name: string, value: string][];
  config: Record<string, unknown>;
  epochs: Epoch[];
  evaluation?: Evaluation;
  benchmark?: Benchmark;
  /** As what chooses the width found them. */
  examples?: { easiest: Example[]; hardest: Example[] };
}

/** The whole page. Throws UsageError for an example that is not an inline image. */
export function renderReport(data: ReportData): string {
  const widths = knownWidths(data);
  const sections = [
    data.evaluation === undefined ? absent("Result", "The run was not evaluated.") : resultSection(data.evaluation),
    data.evaluation?.dynamic ? routesSection(data.evaluation, widths) : absent("Routes", "No gate was run."),
    data.benchmark === undefined ? "" : timeSection(data.benchmark),
    data.examples === undefined ? "" : examplesSection(data.examples, widths),
    trainingSection(data.epochs, widths),
    configSection(data.config),
  ];
  return page(data.title, data.facts, sections, widths.length);
}

/** Every width that any part of the report shows, slimmest first, so that a width has one colour throughout. */
function knownWidths(data: ReportData): number[] {
  const found = new Set<number>();
  for (const { accuracy } of data.epochs) for (const key of Object.keys(accuracy ?? {})) found.add(widthOf(key));
  for (const row of data.evaluation?.rows ?? []) if (row.width !== undefined) found.add(row.width);
  for (const { width } of [...(data.examples?.easiest ?? []), ...(data.examples?.hardest ?? [])]) found.add(width);
  return [...found].filter(Number.isInteger).sort((a, b) => a - b);
}

/** The width number that a key such as "3" names, else NaN. */
function widthOf(key: string): number {
  return /^\d+$/.test(key) ? Number(key) : Number.NaN;
}

function resultSection(e: Evaluation): string {
  const findings = sentences(e).map((text) =>
    text.startsWith("COLLAPSED") ? `<li class="alarm">${escapeHtml(text)}</li>` : `<li>${escapeHtml(text)}</li>`,
  );
  const largest = e.rows.some(({ kind }) => kind === "largest") ? "; <em>largest</em> has wide early stages too" : "";
  return section(
    "Result",
    `<ul class="findings">${findings.join("")}</ul>${accuracyFigure(e)}${honestTable(e)}
<p>MAdds are the mean of one image. Percentages are of the widest numbered width${largest}.</p>`,
  );
}

const MARKS: Partial<Record<RowKind, Pick<Mark, "colour" | "shape">>> = {
  dynamic: { colour: hue(1), shape: "diamond" },
  // The rival: one of the two.
  cascade: { colour: hue(0), shape: "triangle" },
  gate: { colour: hue(0), shape: "triangle" },
  random: { colour: hue(3), shape: "square" },
  oracle: { colour: hue(2), shape: "star" },
};

function accuracyFigure(e: Evaluation): string {
  const at = (row: { madds: number | null; accuracy: number | null }) => ({
    x: row.madds! / 1e6,
    y: 100 * row.accuracy!,
  });
  const bar = e.rows.find((row) => row.kind === "envelope")?.accuracy;
  const marks: Mark[] = [];
  for (const [kind, look] of Object.entries(MARKS)) {
    const row = e.rows.find((candidate) => candidate.kind === kind && candidate.madds !== null);
    if (row === undefined) continue;
    const mark: Mark = { name: rowName(row), label: rowName(row), ...look, ...at(row) };
    if (kind === "dynamic" && e.dynamic !== null && bar != null) {
      const { low, high } = e.dynamic.minusEnvelope;
      mark.whisker = [100 * (bar + low), 100 * (bar + high)];
    }
    marks.push(mark);
  }
  const statics = e.rows.filter((row) => row.kind === "width");
  statics.forEach((row, i) => {
    const ends = i === 0 || i === statics.length - 1;
    marks.push({
      name: rowName(row),
      label: ends ? rowName(row) : String(row.width),
      colour: "var(--muted)",
      shape: "circle",
      ...at(row),
    });
  });
  const line = e.envelope.map((corner) => [at(corner).x, at(corner).y] as [number, number]);
  const caption =
    "Circles: static widths; dashed: their envelope." +
    (e.dynamic === null ? "" : " Whisker: 95 % paired interval of dynamic's distance from the envelope.");
  return figure(
    "Accuracy against cost",
    caption,
    scatterPlot("Top-1 accuracy against MAdds; the table below has the figures", "MAdds (M)", "top-1 %", marks, line),
  );
}

function honestTable(e: Evaluation): string {
  const cell = (column: number) => (column > 0 && column < HONEST_COLUMNS.length - 1 ? ' class="number"' : "");
  const rows = honestCells(e).map((cells, i) => {
    const inner = cells.map((text, column) => `<td${cell(column)}>${escapeHtml(text)}</td>`).join("");
    return `<tr class="${e.rows[i]!.kind}">${inner}</tr>`;
  });
  const head = HONEST_COLUMNS.map((name, column) => `<th${cell(column)} scope="col">${name}</th>`);
  return (
    `<div class="scroll"><table class="honest"><thead><tr>${head.join("")}</tr></thead>` +
    `<tbody>${rows.join("")}</tbody></table></div>`
  );
}

/** Classes drawn at most: with more, the ends of the order say what there is to see. */
const MOST_CLASSES = 30;

function routesSection(e: Evaluation, widths: number[]): string {
  const { candidates, overall, perClass } = e.dynamic!.routes;
  const several = overall.reduce((sum, count) => sum + count, 0) > e.samples;
  const keys = candidates.map((width) => ({
    name: `width ${width}`,
    colour: widthColour(widths.indexOf(width)),
    ink: widthInk(widths.indexOf(width)),
  }));
  const meanWidth = (counts: number[]) =>
    counts.reduce((sum, count, k) => sum + count * k, 0) / counts.reduce((sum, count) => sum + count, 0);
  const classes = perClass
    .map((counts, c) => ({ name: e.classNames[c]!, counts }))
    .filter(({ counts }) => counts.some((count) => count > 0))
    .sort((a, b) => meanWidth(a.counts) - meanWidth(b.counts));
  const shown =
    classes.length <= MOST_CLASSES
      ? classes
      : [...classes.slice(0, MOST_CLASSES / 2), ...classes.slice(-MOST_CLASSES / 2)];
  const caption =
    `Share of each class's ${several ? "choices, one an image at each gate, by width" : "images by the width they took"}, slimmest class first; their number at the right.` +
    (shown.length < classes.length
      ? ` Of ${classes.length} classes the ${MOST_CLASSES / 2} slimmest and the ${MOST_CLASSES / 2} widest are drawn.`
      : "");
  const rows = [{ name: "all", counts: overall }, ...classes];
  return section(
    "Routes",
    figure(
      "Widths taken, by class",
      caption,
      stackedBars("Share of widths taken by class; a table follows", keys, [rows[0]!, ...shown]),
      dataTable(
        ["class", ...keys.map((key) => key.name)],
        rows.map((row) => [row.name, ...row.counts.map(String)]),
      ),
    ),
  );
}

function examplesSection({ easiest, hardest }: NonNullable<ReportData["examples"]>, widths: number[]): string {
  const sheet = (title: string, examples: Example[]) =>
    examples.length === 0
      ? `<h3>${title}</h3><p>None.</p>`
      : `<h3>${title}</h3><ul class="sheet">${examples.map((example) => exampleItem(example, widths)).join("")}</ul>`;
  return section("Examples", sheet("Found easiest", easiest) + sheet("Found hardest", hardest));
}

function exampleItem({ dataUrl, label, predicted, width }: Example, widths: number[]): string {
  if (!/^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/]*=*$/.test(dataUrl)) {
    throw new UsageError(
      `Example: expected a PNG, JPEG or WebP as "data:image/png;base64,...", got "${dataUrl.slice(0, 40)}".`,
    );
  }
  const verdict = label === predicted ? label : `${label}, taken for ${predicted}`;
  return (
    `<li style="--took:${widthColour(widths.indexOf(width))}"><img src="${dataUrl}" alt="${escapeHtml(verdict)}">` +
    `<strong>width ${width}</strong><br>${label === predicted ? "" : "✗ "}${escapeHtml(verdict)}</li>`
  );
}

const ACCURACY_OF = {
  supernet: "Of training images that are held out; where none are, of those it learns from.",
  gate: "Of the images that teach the gate.",
};

function trainingSection(epochs: Epoch[], widths: number[]): string {
  const figures = (["supernet", "gate"] as const).flatMap((stage) => {
    const own = epochs.filter((epoch) => epoch.stage === stage);
    const name = stage === "supernet" ? "stage I, supernet" : "stage II, gate";
    const losses = collect(own, (epoch) => epoch.loss);
    const accuracies = collect(own, (epoch) => epoch.accuracy ?? {});
    return [
      epochFigure(`Loss, ${name}`, "", "loss", losses, widths, 1),
      epochFigure(`Accuracy, ${name}`, ACCURACY_OF[stage], "top-1 %", accuracies, widths, 100),
    ];
  });
  const drawn = figures.filter((each) => each !== "");
  return drawn.length === 0
    ? absent("Training", "No epoch was recorded.")
    : section("Training", `<div class="pair">${drawn.join("")}</div>`);
}

/** Points by key, in order of first appearance, numbered widths first and ascending. */
function collect(epochs: Epoch[], values: (epoch: Epoch) => Record<string, number>): Map<string, [number, number][]> {
  const found = new Map<string, [number, number][]>();
  for (const epoch of epochs) {
    for (const [key, value] of Object.entries(values(epoch))) {
      if (!found.has(key)) found.set(key, []);
      found.get(key)!.push([epoch.epoch, value]);
    }
  }
  return found;
}

function epochFigure(
  title: string,
  caption: string,
  yTitle: string,
  values: Map<string, [number, number][]>,
  widths: number[],
  factor: number,
): string {
  let hues = [...values.keys()].some((key) => widths.includes(widthOf(key))) ? 1 : 0; // hue 0 is near the widths' ramp
  let broken = 0;
  const series: Series[] = [...values].map(([key, points]) => {
    const position = widths.indexOf(widthOf(key));
    const finite = points.filter(([, value]) => Number.isFinite(value));
    broken += points.length - finite.length;
    return {
      name: position < 0 ? key : `width ${key}`,
      colour: position < 0 ? hue(hues++) : widthColour(position),
      points: finite.map(([epoch, value]) => [epoch, factor * value]),
    };
  });
  if (series.every((s) => s.points.length === 0)) return "";
  const epochs = [...new Set([...values.values()].flat().map(([epoch]) => epoch))];
  const cell = (points: [number, number][], epoch: number) => {
    const value = points.find(([at]) => at === epoch)?.[1];
    return value === undefined ? "" : String(Number((factor * value).toPrecision(5)));
  };
  return figure(
    title,
    broken === 0
      ? caption
      : `${caption} ${broken} ${broken === 1 ? "value was" : "values were"} not finite and could not be drawn.`.trimStart(),
    linePlot(`${title} by epoch; a table follows`, "epoch", yTitle, series),
    dataTable(
      ["epoch", ...series.map((s) => s.name)],
      epochs.map((epoch) => [String(epoch), ...[...values.values()].map((points) => cell(points, epoch))]),
    ),
  );
}

function configSection(config: Record<string, unknown>): string {
  const entries = flatten(config, "");
  return entries.length === 0
    ? absent("Configuration", "No configuration was recorded.")
    : section("Configuration", definitions("config", entries));
}

/** Nested settings by their dotted names. */
function flatten(value: Record<string, unknown>, prefix: string): [string, string][] {
  return Object.entries(value).flatMap(([key, inner]): [string, string][] =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? flatten(inner as Record<string, unknown>, `${prefix}${key}.`)
      : [[prefix + key, shown(inner)]],
  );
}

/** `[3/4, 4/3]` → `0.75, 1.33333`; args.yaml has every digit. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "undefined");
}
