/** The frame of a self-contained page, and what its sections are made of. Titles are ours; all else is escaped. */
import { styleSheet } from "./style.js";
import { escapeHtml } from "./svg.js";

/** A page that loads nothing and runs nothing; a content policy forbids what should not be there anyway. `widths`: coloured. */
export function page(
  title: string,
  facts: [name: string, value: string][],
  sections: readonly string[],
  widths: number,
): string {
  const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${styleSheet(widths)}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
${definitions("facts", facts)}
</header>
<main>
${sections.filter((section) => section !== "").join("\n")}
</main>
</body>
</html>
`;
}

export function section(title: string, body: string): string {
  return `<section>\n<h2>${title}</h2>\n${body}\n</section>`;
}

/** A section that says why it is empty. */
export function absent(title: string, why: string): string {
  return section(title, `<p>${why}</p>`);
}

export function figure(title: string, caption: string, plot: string, table = ""): string {
  const line = caption === "" ? "" : `<p>${escapeHtml(caption)}</p>`;
  return `<figure><figcaption><h3>${escapeHtml(title)}</h3>${line}</figcaption><div class="scroll">${plot}</div>${table}</figure>`;
}

/** Figures behind a plot, folded away. */
export function dataTable(head: string[], rows: string[][]): string {
  const header = head.map((name) => `<th scope="col">${escapeHtml(name)}</th>`).join("");
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`).join("");
  return `<details><summary>As a table</summary><div class="scroll"><table><thead><tr>${header}</tr></thead><tbody>${body}</tbody></table></div></details>`;
}

export function definitions(kind: string, entries: [string, string][]): string {
  const items = entries.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  return `<dl class="${kind}">${items.join("")}</dl>`;
}
