/** Words, numbers and tables of the pages made from records. */
import type { Figure } from "./record.js";
import type { OverSeeds } from "./seeds.js";

export function percent(share: number | null | undefined): string {
  return share == null ? "" : (100 * share).toFixed(2);
}

export function points(share: number): string {
  return `${share < 0 ? "-" : "+"}${Math.abs(100 * share).toFixed(2)}`;
}

export function interval(figure: Figure | undefined): string {
  if (figure?.value == null) return "";
  const { value, low, high } = figure;
  return low === null || high === null ? points(value) : `${points(value)} [${points(low)}, ${points(high)}]`;
}

export function spread(x: OverSeeds | null, factor = 100, digits = 2): string {
  if (x === null) return "";
  const shown = (factor * x.mean).toFixed(digits);
  return x.seeds === 1 ? shown : `${shown} ± ${(factor * x.deviation).toFixed(digits)}`;
}

export function decided(x: OverSeeds | null): string {
  if (x === null) return "";
  if (x.seeds === 1) return `${points(x.mean)} (one seed)`;
  const text = `${points(x.mean)} ± ${(100 * x.half).toFixed(2)}`;
  return Math.abs(x.mean) > x.half ? `**${text}**` : text;
}

export function markdown(header: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const rule = header.map((_, i) => (i === 0 ? "---" : "---:"));
  return `${[header, rule, ...rows].map(line).join("\n")}\n`;
}
