/** Aligned columns of text for a terminal. */

export interface Column {
  title: string;
  /** `right` for numbers. */
  align?: "left" | "right";
}

/** What a terminal would obey instead of show (file names and labels come from strangers), made visible. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

const ZERO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]$/u;
const DOUBLE_WIDTH =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1faff}\u{20000}-\u{3fffd}]$/u;

/** Terminal cells a text takes: Chinese, Japanese, Korean and emoji take two, combining marks none. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of text) width += ZERO_WIDTH.test(char) ? 0 : DOUBLE_WIDTH.test(char) ? 2 : 1;
  return width;
}

/** The beginning of a text that fits into `width` cells, with an ellipsis where something is cut off. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = "";
  let used = 1; // the ellipsis
  for (const char of text) {
    used += displayWidth(char);
    if (used > width) break;
    kept += char;
  }
  return width < 1 ? "" : `${kept}…`;
}

/** A header line and one line a row, columns two spaces apart. `heading` styles the header. */
export function table(columns: readonly Column[], rows: readonly string[][], heading = (text: string) => text): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, j) => Math.max(...cells.map((row) => displayWidth(row[j] ?? ""))));
  const lines = cells.map((row) =>
    columns
      .map(({ align }, j) => {
        const text = row[j] ?? "";
        const space = " ".repeat(widths[j]! - displayWidth(text));
        return align === "right" ? space + text : text + space;
      })
      .join("  ")
      .trimEnd(),
  );
  return [heading(lines[0]!), ...lines.slice(1)].join("\n");
}

/** At most `count` of the rows, evenly spread, the first and the last among them. */
export function evenly<T>(rows: readonly T[], count: number): T[] {
  const shown = Math.min(count, rows.length);
  return Array.from({ length: shown }, (_, i) => rows[Math.round((i * (rows.length - 1)) / (shown - 1 || 1))]!);
}
