/** A benchmark for people: its table and findings as text, and the section that draws time against MAdds. */
import type { Benchmark, BenchmarkRow } from "../evaluate/benchmark.js";
import { hue, widthColour } from "./colours.js";
import { dataTable, figure, page, section } from "./page.js";
import { type Mark, scatterPlot } from "./plots.js";

/** A page of its own for one benchmark. */
export function renderBenchmark(title: string, facts: [name: string, value: string][], b: Benchmark): string {
  return page(title, facts, [timeSection(b)], b.rows.length);
}

export function timeSection(b: Benchmark): string {
  const findings = timeSentences(b).map((text) => `<li>${text}</li>`);
  return section("Time", `<ul class="findings">${findings.join("")}</ul>${timeFigure(b)}`);
}

export const TIME_COLUMNS = [
  "what",
  "MAdds (M)",
  "median ms",
  "p90 ms",
  "GMAC/s",
  "% of peak",
  "faster",
  "by MAdds",
  "delivered",
];

/** One row of cells for each of the benchmark's. */
export function timeCells({ rows }: Benchmark): string[][] {
  return rows.map((row) => [
    rowName(row),
    digits(row.madds / 1e6),
    digits(row.median),
    digits(row.p90),
    row.gmacs.toFixed(1),
    (100 * row.peakShare).toFixed(1),
    `${row.delivered.toFixed(2)}×`,
    `${row.theoretical.toFixed(2)}×`,
    `${((100 * row.delivered) / row.theoretical).toFixed(0)} %`,
  ]);
}

/** The findings, most important first. */
export function timeSentences(b: Benchmark): string[] {
  const slimmest = b.rows[0]!;
  const widest = b.rows.findLast(({ kind }) => kind === "width")!;
  const share = ((100 * slimmest.delivered) / slimmest.theoretical).toFixed(0);
  const found = [
    `Width ${slimmest.width} has ${slimmest.theoretical.toFixed(2)}× fewer MAdds than ${rowName(widest)} and is ` +
      `${slimmest.delivered.toFixed(2)}× faster: ${share} % of the ideal is delivered.`,
    `Width ${widest.width} runs at ${(100 * widest.peakShare).toFixed(0)} % of the best matrix product of these kernels here, ` +
      `${b.peakGmacs.toFixed(1)} GMAC/s.`,
  ];
  if (b.gate !== null) {
    const part = ((100 * b.gate.ms) / slimmest.median).toFixed(1);
    found.push(
      `The gate's own layers take ${digits(1000 * b.gate.ms)} µs, ${part} % of ${rowName(slimmest)}; ` +
        `${b.gate.madds} MAdds.`,
    );
  }
  const { weights, plan } = b.memory;
  found.push(
    `Peak memory ${megabytes(weights + plan)}: ${megabytes(weights)} of weights, ${megabytes(plan)} to run all widths on a batch of ${b.batch}.`,
  );
  found.push(
    `Measured on ${b.kernels} in ${b.precision}, ${b.threads} ${b.threads === 1 ? "thread" : "threads"}, batch ${b.batch}; ${b.rounds} rounds, taken in turns.`,
  );
  return found;
}

function timeFigure(b: Benchmark): string {
  const widest = b.rows.findLast(({ kind }) => kind === "width")!;
  const widths = b.rows.filter(({ kind }) => kind === "width");
  const looks = {
    width: { shape: "circle" },
    largest: { shape: "square", colour: "var(--muted)" },
    dynamic: { shape: "diamond", colour: hue(1) },
  } as const;
  const marks = b.rows.map((row): Mark => {
    const ends = row.kind !== "width" || row === widths[0] || row === widest;
    return {
      name: rowName(row),
      label: ends ? rowName(row) : String(row.width),
      colour: widthColour(widths.indexOf(row)),
      ...looks[row.kind],
      x: row.madds / 1e6,
      y: row.median,
    };
  });
  const end = b.rows.reduce((a, row) => (row.madds > a.madds ? row : a));
  const ideal: [number, number][] = [
    [0, 0],
    [end.madds / 1e6, (end.madds / widest.madds) * widest.median],
  ];
  marks.sort((one, other) => Number(other.shape !== "circle") - Number(one.shape !== "circle"));
  return figure(
    "Time against MAdds",
    `Dashed: an ideal machine, whose time falls with the MAdds, through ${rowName(widest)}.`,
    scatterPlot("Milliseconds of one image against MAdds; a table follows", "MAdds (M)", "ms", marks, ideal),
    dataTable(TIME_COLUMNS, timeCells(b)),
  );
}

function rowName({ kind, width }: BenchmarkRow): string {
  return kind === "width" ? `width ${width}` : kind;
}

function megabytes(bytes: number): string {
  return `${digits(bytes / 1e6)} MB`;
}

/** Three digits, no exponent. */
function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(value))));
}
