/** Lines of comma-separated values. One row, one line: whoever counts lines counts rows. */
import { UsageError } from "../errors.js";

export type Cell = number | string | boolean | null;

/** With its line break. UsageError where a cell holds one. */
export function csvLine(cells: readonly Cell[]): string {
  return `${cells.map(csvCell).join(",")}\n`;
}

function csvCell(cell: Cell): string {
  const text = cell === null ? "" : String(cell);
  if (/[\r\n]/.test(text)) throw new UsageError(`A cell of CSV cannot hold a line break: ${JSON.stringify(text)}`);
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csvCells(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!,
  );
}

/** Rows by column of a text whose first line names them. */
export function csvRows(text: string): Record<string, string>[] {
  const [header = "", ...lines] = text.split("\n").slice(0, -1);
  const columns = csvCells(header);
  return lines.map((line) => Object.fromEntries(csvCells(line).map((cell, i) => [columns[i]!, cell])));
}
