/** The report's three kinds of plot, each a string of SVG: lines, scatter with an envelope, stacked bars. */
import { type Box, epochTicks, escapeHtml, frame, niceTicks, placeLabel, px, spread, svg, textWidth } from "./svg.js";

export interface Series {
  name: string;
  colour: string;
  points: [x: number, y: number][];
}

const WIDTH = 560;
const LABEL_GAP = 15;

/** Series against epochs, each named at its right end. `series` has at least one point. */
export function linePlot(label: string, xTitle: string, yTitle: string, series: Series[]): string {
  const drawn = series.filter((s) => s.points.length > 0);
  const xs = drawn.flatMap((s) => s.points.map(([x]) => x));
  const ys = drawn.flatMap((s) => s.points.map(([, y]) => y));
  const height = Math.max(300, 70 + LABEL_GAP * (drawn.length + 1));
  const f = frame({
    width: WIDTH,
    height,
    marginRight: 34 + Math.max(...drawn.map((s) => textWidth(s.name))),
    xTicks: epochTicks(Math.min(...xs), Math.max(...xs)),
    yTicks: niceTicks(Math.min(...ys), Math.max(...ys)),
    xTitle,
    yTitle,
  });
  const labelAt = spread(
    drawn.map((s) => f.y(s.points.at(-1)![1])),
    LABEL_GAP,
    f.top,
    f.bottom,
  );
  const body = drawn.map((s, i) => {
    const path = s.points.map(([x, y]) => `${px(f.x(x))},${px(f.y(y))}`).join(" ");
    const marked = s.points.length <= 40 ? s.points : s.points.slice(-1);
    const dots = marked.map(
      ([x, y]) =>
        `<circle cx="${px(f.x(x))}" cy="${px(f.y(y))}" r="2.5"><title>${escapeHtml(s.name)}, ${xTitle} ${x}: ` +
        `${Number(y.toPrecision(5))}</title></circle>`,
    );
    const [lastX, lastY] = s.points.at(-1)!;
    return (
      `<g style="color:${s.colour}"><polyline points="${path}"/>${dots.join("")}` +
      `<polyline class="leader" points="${px(f.x(lastX) + 4)},${px(f.y(lastY))} ${px(f.right + 8)},${px(f.y(lastY))} ` +
      `${px(f.right + 20)},${px(labelAt[i]!)} ${px(f.right + 26)},${px(labelAt[i]!)}"/></g>` +
      `<text x="${px(f.right + 29)}" y="${px(labelAt[i]! + 4)}">${escapeHtml(s.name)}</text>`
    );
  });
  return svg("lines", label, WIDTH, height, xs.length, f.markup + body.join(""));
}

export interface Mark {
  name: string;
  colour: string;
  shape: "circle" | "diamond" | "square" | "triangle" | "star";
  x: number;
  y: number;
  /** Written beside the mark. */
  label: string;
  /** Ends of a vertical whisker. */
  whisker?: [low: number, high: number];
}

/** Marks over a broken line (an envelope, an ideal). Earlier marks get their labels first. `marks` is not empty. */
export function scatterPlot(
  label: string,
  xTitle: string,
  yTitle: string,
  marks: Mark[],
  line: [x: number, y: number][],
): string {
  const width = 900;
  const height = 440;
  const xs = [...marks.map((m) => m.x), ...line.map(([x]) => x)];
  const ys = [...marks.flatMap((m) => [m.y, ...(m.whisker ?? [])]), ...line.map(([, y]) => y)];
  const f = frame({
    width,
    height,
    marginRight: 24,
    xTicks: niceTicks(Math.min(...xs), Math.max(...xs), 7),
    yTicks: niceTicks(Math.min(...ys), Math.max(...ys), 6),
    xTitle,
    yTitle,
  });
  const path = line.map(([x, y]) => [f.x(x), f.y(y)] as const);
  const around = (x: number, y: number, r: number): Box => ({ x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  const obstacles: Box[] = marks.map((m) => around(f.x(m.x), f.y(m.y), m.shape === "circle" ? 6 : 9));
  for (const m of marks) {
    if (m.whisker === undefined) continue;
    const [low, high] = m.whisker.map(f.y) as [number, number];
    obstacles.push({ x: f.x(m.x) - 6, y: high, width: 12, height: low - high });
  }
  path.slice(1).forEach(([x2, y2], i) => {
    const [x1, y1] = path[i]!;
    const pieces = Math.ceil(Math.hypot(x2 - x1, y2 - y1) / 5);
    for (let k = 0; k <= pieces; k++) {
      obstacles.push(around(x1 + ((x2 - x1) * k) / pieces, y1 + ((y2 - y1) * k) / pieces, 2));
    }
  });
  const bounds = { x: f.left, y: f.top - 14, width: width - f.left, height: f.bottom - f.top + 14 };
  const labels = marks.map((m) => {
    const [x, y] = [f.x(m.x), f.y(m.y)];
    const box = placeLabel(m.label, x, y, obstacles, bounds);
    if (box === null) return "";
    obstacles.push(box);
    const [nearX, nearY] = [clamp(x, box.x, box.x + box.width), clamp(y, box.y, box.y + box.height)];
    const far = Math.hypot(nearX - x, nearY - y) > 20;
    const leader = far
      ? `<line class="leader" style="color:${m.colour}" x1="${px(x)}" y1="${px(y)}" x2="${px(nearX)}" y2="${px(nearY)}"/>`
      : "";
    return `${leader}<text x="${px(box.x + box.width / 2)}" y="${px(box.y + 11)}" text-anchor="middle">${escapeHtml(m.label)}</text>`;
  });
  const drawn = marks.map((m) => {
    const [x, y] = [f.x(m.x), f.y(m.y)];
    const whisker =
      m.whisker === undefined
        ? ""
        : `<path class="whisker" d="M${px(x)} ${px(f.y(m.whisker[0]))}V${px(f.y(m.whisker[1]))}` +
          `M${px(x - 5)} ${px(f.y(m.whisker[0]))}h10M${px(x - 5)} ${px(f.y(m.whisker[1]))}h10"/>`;
    const tip = `${m.name}: ${Number(m.x.toPrecision(4))}, ${Number(m.y.toPrecision(4))}`;
    return `<g class="mark" style="color:${m.colour}">${whisker}<path d="${shape(m.shape, x, y)}"><title>${escapeHtml(tip)}</title></path></g>`;
  });
  const envelope = `<polyline class="envelope" points="${path.map(([x, y]) => `${px(x)},${px(y)}`).join(" ")}"/>`;
  return svg(
    "scatter",
    label,
    width,
    height,
    marks.length,
    f.markup + envelope + drawn.reverse().join("") + labels.join(""),
  );
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}

function shape(kind: Mark["shape"], x: number, y: number): string {
  switch (kind) {
    case "circle":
      return `M${px(x - 4)} ${px(y)}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z`;
    case "diamond":
      return `M${px(x)} ${px(y - 8)}l7 8l-7 8l-7 -8Z`;
    case "square":
      return `M${px(x - 5)} ${px(y - 5)}h10v10h-10Z`;
    case "triangle":
      return `M${px(x)} ${px(y - 7)}l7 12h-14Z`;
    case "star": {
      const corners = Array.from({ length: 10 }, (_, i) => {
        const r = i % 2 === 0 ? 8 : 3.4;
        const angle = (Math.PI * i) / 5;
        return `${px(x + r * Math.sin(angle))} ${px(y - r * Math.cos(angle))}`;
      });
      return `M${corners.join("L")}Z`;
    }
  }
}

export interface BarKey {
  name: string;
  colour: string;
  ink: string;
}

export interface BarRow {
  name: string;
  counts: number[];
}

/** One bar a row, cut into the keys' shares. `rows` and `keys` are not empty. */
export function stackedBars(label: string, keys: BarKey[], rows: BarRow[]): string {
  const width = 900;
  const barHeight = 20;
  const names = rows.map((row) => shorten(row.name, 24));
  const left = 14 + Math.max(...names.map(textWidth));
  const span = width - left - 70;
  const legend: string[] = [];
  let [legendX, legendY] = [left, 4];
  for (const key of keys) {
    const size = 32 + textWidth(key.name);
    if (legendX + size > width) [legendX, legendY] = [left, legendY + 20];
    legend.push(
      `<rect x="${px(legendX)}" y="${legendY}" width="14" height="14" rx="2" style="fill:${key.colour}"/>` +
        `<text x="${px(legendX + 19)}" y="${legendY + 11}">${escapeHtml(key.name)}</text>`,
    );
    legendX += size;
  }
  const top = legendY + 28;
  const bars = rows.map((row, r) => {
    const y = top + r * (barHeight + 4);
    const total = row.counts.reduce((sum, count) => sum + count, 0);
    let x = left;
    const segments = row.counts.map((count, k) => {
      const share = total === 0 ? 0 : count / total;
      const size = share * span;
      const at = x;
      x += size;
      if (count === 0) return "";
      const percent = `${(100 * share).toFixed(0)} %`;
      const text =
        size > textWidth(percent) + 4
          ? `<text class="share" x="${px(at + size / 2)}" y="${px(y + 14)}" text-anchor="middle" style="fill:${keys[k]!.ink}">${percent}</text>`
          : "";
      const tip = `${row.name}, ${keys[k]!.name}: ${count} of ${total}`;
      return (
        `<rect x="${px(at)}" y="${px(y)}" width="${px(Math.max(0.5, size))}" height="${barHeight}" ` +
        `style="fill:${keys[k]!.colour}"><title>${escapeHtml(tip)}</title></rect>${text}`
      );
    });
    return (
      `<text x="${px(left - 8)}" y="${px(y + 14)}" text-anchor="end">${escapeHtml(names[r]!)}</text>${segments.join("")}` +
      `<text class="tick" x="${px(left + span + 8)}" y="${px(y + 14)}">${total}</text>`
    );
  });
  const height = top + rows.length * (barHeight + 4);
  return svg("bars", label, width, height, rows.length * keys.length, legend.join("") + bars.join(""));
}

function shorten(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}
