/** The honest table as text for a terminal: rows, then the facts in sentences; and its cells, for other pages. */
import type { Evaluation, Row } from "./evaluate.js";
import type { Interval } from "./interval.js";

export const HONEST_COLUMNS = ["what", "MAdds (M)", "% of widest", "top-1 %", "note"] as const;

/** A line of cells for every row. */
export function honestCells(e: Evaluation): string[][] {
  const digits = maddsDigits(e);
  const widest = widestMadds(e);
  return e.rows.map((row) => [
    rowName(row),
    row.madds === null ? "n/a" : (row.madds / 1e6).toFixed(digits),
    row.madds === null ? "n/a" : ((100 * row.madds) / widest).toFixed(1),
    row.accuracy === null ? "n/a" : (100 * row.accuracy).toFixed(2),
    row.note,
  ]);
}

export function formatEvaluation(e: Evaluation): string {
  const lines: (readonly string[])[] = [HONEST_COLUMNS, ...honestCells(e)];
  const sizes = [0, 1, 2, 3].map((column) => Math.max(...lines.map((line) => line[column]!.length)));
  const table = lines.map((line) =>
    line
      .map((cell, column) => {
        if (column === 4) return cell;
        return column === 0 ? cell.padEnd(sizes[column]!) : cell.padStart(sizes[column]!);
      })
      .join("  ")
      .trimEnd(),
  );
  return `${table.join("\n")}\n\n${sentences(e).join("\n")}\n`;
}

/** The findings, most important first. */
export function sentences(e: Evaluation): string[] {
  const samples = `${e.samples} validation ${e.samples === 1 ? "image" : "images"}`;
  if (e.dynamic === null) return [`${samples}; no gate was run.`];
  const d = e.dynamic;
  const { candidates, overall, perClass } = d.routes;
  const choices = overall.reduce((a, b) => a + b, 0);
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const found: string[] = [];
  if (d.collapse !== null) {
    const { width, share } = d.collapse;
    const what = typeof width === "number" ? `width ${width}` : `route ${width.join(", ")}`;
    found.push(`COLLAPSED: ${what} takes ${percent(share)} of the images, so nothing is chosen.`);
  }
  found.push(`Dynamic minus the static envelope at the same mean MAdds: ${withInterval(d.minusEnvelope)}.`);
  found.push(`Dynamic minus width ${d.minusNearest.width}, the envelope's nearest: ${withInterval(d.minusNearest)}.`);
  found.push(`Dynamic minus width ${d.minusWidest.width}, the widest: ${withInterval(d.minusWidest)}.`);
  found.push(
    d.gapRecovered === null
      ? "The envelope is not below the widest here: there is no gap to recover."
      : d.gapRecovered < 0
        ? "Dynamic lies below the envelope: it recovers nothing of the gap to the widest."
        : `Dynamic recovers ${percent(d.gapRecovered)} of the gap between the envelope and the widest.`,
  );
  const judges = Object.entries({ "the gate": d.auc.gate, [`width ${candidates[0]}'s confidence`]: d.auc.confidence })
    .filter(([, auc]) => auc !== undefined)
    .map(([judge, auc]) => `${judge} ${auc === null ? "n/a" : auc!.toFixed(3)}`);
  found.push(`AUC on easy (width ${candidates[0]} is right) against hard: ${judges.join(", ")} (0.5 is blind).`);
  found.push(
    `Routes: ${candidates.map((width, k) => `width ${width} ${percent(overall[k]! / choices)}`).join(", ")}` +
      (choices > e.samples ? ` of the choices of ${choices / e.samples} gates.` : "."),
  );
  const spread = widestSpread(perClass);
  if (spread !== null) {
    const of = (c: number) => `${e.classNames[c]} (${percent(slimmestShare(perClass[c]!))})`;
    found.push(
      `Width ${candidates[0]} takes the largest share of class ${of(spread.most)}, the smallest of ${of(spread.fewest)}.`,
    );
  }
  found.push(`${samples}; intervals are 95 %, paired.`);
  return found;
}

/** `width 3`, or the plain name of the row's kind. */
export function rowName(row: Row): string {
  switch (row.kind) {
    case "width":
      return `width ${row.width}`;
    case "envelope":
      return "static envelope";
    case "random":
      return "random routing";
    case "routes":
      return "random fixed routes";
    case "cascade":
      return "confidence cascade";
    default:
      return row.kind;
  }
}

/** Cost of the highest numbered width, the denominator of every percentage. */
export function widestMadds(e: Evaluation): number {
  return e.rows.findLast((row) => row.kind === "width")!.madds!;
}

/** Decimals that show the slimmest width's millions of MAdds with four digits. */
export function maddsDigits(e: Evaluation): number {
  const slimmest = e.rows[0]!.madds! / 1e6;
  return Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(slimmest))));
}

function withInterval({ difference, low, high }: Interval): string {
  const points = (value: number) => `${value < 0 ? "-" : "+"}${Math.abs(100 * value).toFixed(2)}`;
  const verdict = low > 0 ? "better" : high < 0 ? "worse" : "no difference shown";
  return `${points(difference)} points [${points(low)}, ${points(high)}], ${verdict}`;
}

/** Classes with the highest and the lowest share at the slimmest candidate; null if they do not differ. */
function widestSpread(perClass: number[][]): { most: number; fewest: number } | null {
  const seen = perClass.map((_, c) => c).filter((c) => perClass[c]!.some((count) => count > 0));
  seen.sort((a, b) => slimmestShare(perClass[b]!) - slimmestShare(perClass[a]!));
  const [most, fewest] = [seen[0], seen.at(-1)];
  if (most === undefined || fewest === undefined || slimmestShare(perClass[most]!) === slimmestShare(perClass[fewest]!))
    return null;
  return { most, fewest };
}

function slimmestShare(counts: number[]): number {
  return counts[0]! / counts.reduce((sum, count) => sum + count, 0);
}
