/**
 * Colours for both schemes, told apart by the colour-blind too: Okabe and Ito's hues for things without order, and for
 * widths a ramp whose lightness runs one way, so that wider always stands out more from the page.
 */
const LIGHT_RAMP = ["#4fb8a3", "#2b7bba", "#40237f"];
const DARK_RAMP = ["#5468c9", "#35b0ae", "#eef08c"];
const LIGHT_HUES = ["#0072b2", "#c94f00", "#007a5a", "#a84a86", "#9a6700", "#50606f"];
const DARK_HUES = ["#56b4e9", "#ff8f52", "#2fcf9f", "#e69ac8", "#f0b840", "#aab6c2"];

export function hue(index: number): string {
  return `var(--hue-${index % LIGHT_HUES.length})`;
}

/** Colour of the `index`-th of the widths, slimmest first. */
export function widthColour(index: number): string {
  return `var(--width-${index})`;
}

/** Black or white, whichever is read on `widthColour(index)`. */
export function widthInk(index: number): string {
  return `var(--ink-${index})`;
}

/** CSS custom properties of one scheme for `widths` widths. */
export function colourVariables(scheme: "light" | "dark", widths: number): string {
  const hues = scheme === "light" ? LIGHT_HUES : DARK_HUES;
  const ramp = scheme === "light" ? LIGHT_RAMP : DARK_RAMP;
  const lines = hues.map((colour, i) => `--hue-${i}:${colour}`);
  for (let i = 0; i < widths; i++) {
    const rgb = rampColour(ramp, widths === 1 ? 1 : i / (widths - 1));
    lines.push(`--width-${i}:rgb(${rgb.join(" ")})`, `--ink-${i}:${isLight(rgb) ? "#000" : "#fff"}`);
  }
  return lines.join(";");
}

function rampColour(stops: string[], at: number): number[] {
  const segment = Math.min(stops.length - 2, Math.floor(at * (stops.length - 1)));
  const t = at * (stops.length - 1) - segment;
  const [from, to] = [parse(stops[segment]!), parse(stops[segment + 1]!)];
  return from.map((channel, c) => Math.round(channel + t * (to[c]! - channel)));
}

function parse(hex: string): number[] {
  return [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
}

/** Whether black contrasts more than white (WCAG's relative luminance). */
function isLight(rgb: number[]): boolean {
  const [r, g, b] = rgb.map((channel) => (channel / 255) ** 2.2);
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b! > 0.179;
}
