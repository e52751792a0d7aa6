/** What every plot is made of: escaping, ticks, scales, axes, and labels that keep out of each other's way. */

/** Text made safe inside HTML and SVG, attributes included. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}

/** Round steps of 1, 2 or 5 times a power of ten that cover [min, max] in about `count` intervals. */
export function niceTicks(min: number, max: number, count = 5): number[] {
  const size = Math.max(Math.abs(min), Math.abs(max));
  const span = max - min > 1e-9 * size ? max - min : size || 1; // constant but for rounding: any span will do
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999)!;
  const first = Math.floor(min / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(max / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Whole numbers only. */
export function epochTicks(first: number, last: number): number[] {
  return niceTicks(first, Math.max(last, first + 1), Math.min(6, Math.max(1, last - first)));
}

/** Ticks (two or more) as text, all with the decimals that their step needs. */
export function tickLabels(ticks: number[]): string[] {
  const step = ticks[1]! - ticks[0]!;
  const most = Math.max(...ticks.map(Math.abs));
  if (step < 1e-6 || most >= 1e7) return ticks.map((tick) => tick.toExponential(Math.ceil(Math.log10(most / step))));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return ticks.map((tick) => tick.toFixed(decimals));
}

/** Pixels that a label of the plots' 12-pixel type takes, on the safe side. */
export function textWidth(text: string): number {
  return text.length * 6.8;
}

export function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}

export interface Frame {
  x: (value: number) => number;
  y: (value: number) => number;
  left: number;
  right: number;
  top: number;
  bottom: number;
  /** Grid, tick labels and axis titles. */
  markup: string;
}

export interface FrameOptions {
  width: number;
  height: number;
  /** Space to the right of the plot, for labels. */
  marginRight: number;
  xTicks: number[];
  yTicks: number[];
  xTitle: string;
  yTitle: string;
}

export function frame({ width, height, marginRight, xTicks, yTicks, xTitle, yTitle }: FrameOptions): Frame {
  const xLabels = tickLabels(xTicks);
  const yLabels = tickLabels(yTicks);
  const left = 14 + Math.max(...yLabels.map(textWidth));
  const right = width - marginRight;
  const top = 30;
  const bottom = height - 40;
  const x = scale(xTicks[0]!, xTicks.at(-1)!, left, right);
  const y = scale(yTicks[0]!, yTicks.at(-1)!, bottom, top);
  const markup = [
    ...yTicks.map(
      (tick, i) =>
        `<line class="grid" x1="${px(left)}" x2="${px(right)}" y1="${px(y(tick))}" y2="${px(y(tick))}"/>` +
        `<text class="tick" x="${px(left - 6)}" y="${px(y(tick) + 4)}" text-anchor="end">${yLabels[i]}</text>`,
    ),
    ...xTicks.map(
      (tick, i) =>
        `<line class="axis" x1="${px(x(tick))}" x2="${px(x(tick))}" y1="${px(bottom)}" y2="${px(bottom + 4)}"/>` +
        `<text class="tick" x="${px(x(tick))}" y="${px(bottom + 18)}" text-anchor="middle">${xLabels[i]}</text>`,
    ),
    `<line class="axis" x1="${px(left)}" x2="${px(right)}" y1="${px(bottom)}" y2="${px(bottom)}"/>`,
    `<text class="title" x="4" y="14">${escapeHtml(yTitle)}</text>`,
    `<text class="title" x="${px((left + right) / 2)}" y="${px(height - 6)}" text-anchor="middle">${escapeHtml(xTitle)}</text>`,
  ].join("");
  return { x, y, left, right, top, bottom, markup };
}

function scale(from: number, to: number, start: number, end: number): (value: number) => number {
  return (value) => start + ((value - from) / (to - from)) * (end - start);
}

export function svg(
  kind: string,
  label: string,
  width: number,
  height: number,
  dataPoints: number,
  body: string,
): string {
  return (
    `<svg class="plot ${kind}" role="img" aria-label="${escapeHtml(label)}" data-points="${dataPoints}" ` +
    `viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">${body}</svg>`
  );
}

/**
 * Moves wished-for positions along one axis apart to at least `gap`, within [min, max], keeping their order: groups that
 * would touch are set around the mean of their wishes.
 */
export function spread(wishes: number[], gap: number, min: number, max: number): number[] {
  const order = wishes.map((_, i) => i).sort((a, b) => wishes[a]! - wishes[b]!);
  const groups: { mean: number; size: number }[] = [];
  order.forEach((i, k) => {
    // Less k gaps, "apart by a gap" is "not descending": pool neighbours that descend.
    let group = { mean: wishes[i]! - k * gap, size: 1 };
    while (groups.length > 0 && groups.at(-1)!.mean > group.mean) {
      const { mean, size } = groups.pop()!;
      group = { mean: (mean * size + group.mean * group.size) / (size + group.size), size: size + group.size };
    }
    groups.push(group);
  });
  const highest = max - (wishes.length - 1) * gap;
  const placed = groups.flatMap(({ mean, size }) =>
    new Array<number>(size).fill(Math.max(min, Math.min(highest, mean))),
  );
  const out = new Array<number>(wishes.length);
  order.forEach((i, k) => {
    out[i] = placed[k]! + k * gap;
  });
  return out;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/**
 * Where to write a label near (x, y): the nearest of a few rings of places that meets no obstacle and stays in `bounds`;
 * null if all are taken.
 */
export function placeLabel(text: string, x: number, y: number, obstacles: readonly Box[], bounds: Box): Box | null {
  const width = textWidth(text);
  const height = 14;
  for (const radius of [11, 18, 28, 42, 60]) {
    for (const [dx, dy] of AROUND) {
      const box = {
        x: x + dx * radius + (dx < -0.5 ? -width : dx > 0.5 ? 0 : -width / 2),
        y: y + dy * radius + (dy < -0.5 ? -height : dy > 0.5 ? 0 : -height / 2),
        width,
        height,
      };
      const inside =
        box.x >= bounds.x &&
        box.y >= bounds.y &&
        box.x + width <= bounds.x + bounds.width &&
        box.y + height <= bounds.y + bounds.height;
      if (inside && !obstacles.some((other) => overlap(box, other))) return box;
    }
  }
  return null;
}

/** Directions to try, best reading first. */
const AROUND = [
  [1, 0],
  [0, -1],
  [-1, 0],
  [0, 1],
  [0.7, -0.7],
  [-0.7, -0.7],
  [0.7, 0.7],
  [-0.7, 0.7],
] as const;

export function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
