/** The plots of docs/RESULTS.md: SVG files that stand alone. */
import { upperEnvelope } from "../../src/evaluate/envelope.js";
import { colourVariables, hue, widthColour } from "../../src/report/colours.js";
import { linePlot, type Mark, type Series, scatterPlot } from "../../src/report/plots.js";
import { type Figure, isWidth } from "./record.js";
import type { OverSeeds } from "./seeds.js";

/** `widths`: how many have a colour. */
const style = (widths: number) =>
  `svg{--page:#fff;--text:#1b2127;--muted:#56616c;--line:#d5dbe1;${colourVariables("light", widths)};background:#fff;font:12px system-ui,sans-serif}` +
  "text{fill:var(--text)}.tick,.title{fill:var(--muted)}.grid{stroke:var(--line)}.axis{stroke:var(--muted)}" +
  ".leader{fill:none;stroke:currentColor;opacity:.6}.envelope{fill:none;stroke:var(--muted);stroke-dasharray:5 4}" +
  ".mark path{fill:currentColor}.mark .whisker{fill:none;stroke:currentColor}" +
  ".lines polyline{fill:none;stroke:currentColor}.lines circle{fill:currentColor}";

function standAlone(svg: string, widths = 1): string {
  const head = `<style>${style(widths)}</style>`;
  return `${svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ').replace(">", `>${head}`)}\n`;
}

const LOOKS: { [what: string]: Pick<Mark, "colour" | "shape"> } = {
  dynamic: { colour: hue(1), shape: "diamond" },
  "confidence cascade": { colour: hue(0), shape: "triangle" },
  gate: { colour: hue(0), shape: "triangle" },
  "random routing": { colour: hue(3), shape: "square" },
  oracle: { colour: hue(2), shape: "star" },
};

/** Top-1 against MAdds. Whisker: the interval of dynamic's distance from the envelope. */
export function resultPlot(rows: readonly Figure[], lift: Figure | null): string {
  const envelope = rows.find(({ what }) => what === "envelope")?.value;
  const marks = rows
    .filter(({ what, value }) => what !== "envelope" && what !== "largest" && value !== null)
    .map(({ what, madds, value }): Mark => {
      const look = LOOKS[what] ?? { colour: "var(--muted)", shape: "circle" as const };
      const whisker = what === "dynamic" && envelope != null && lift?.low != null && lift.high != null;
      return {
        ...{ name: what, label: what, x: madds! / 1e6, y: 100 * value!, ...look },
        ...(whisker && { whisker: [100 * (envelope + lift.low!), 100 * (envelope + lift.high!)] }),
      };
    });
  const points = rows.filter(isWidth).map(({ madds, value }, width) => ({ width, madds: madds!, accuracy: value! }));
  const line = upperEnvelope(points).map(({ madds, accuracy }) => [madds / 1e6, 100 * accuracy] as [number, number]);
  return standAlone(scatterPlot("Top-1 accuracy against MAdds", "MAdds (M)", "top-1 %", marks, line));
}

/** Top-1 of each numbered width on held-out images, epoch by epoch, from a run's results.csv. */
export function epochPlot(rows: readonly { readonly [column: string]: string }[]): string {
  const epochs = rows.filter(({ stage }) => stage === "supernet");
  const series: Series[] = [];
  for (let width = 0; epochs[0]?.[`top1_${width}`] !== undefined; width++) {
    const points = epochs.map((row): [number, number] => [Number(row.epoch), 100 * Number(row[`top1_${width}`])]);
    series.push({ name: `width ${width}`, colour: widthColour(width), points });
  }
  return standAlone(linePlot("Held-out top-1 by epoch of stage I", "epoch", "top-1 %", series), series.length);
}

/** How far above the static envelope each variant of the gate lies. Whisker: ± one standard deviation over seeds. */
export function ablationPlot(variants: { run: string; name: string; madds: number; lift: OverSeeds }[]): string {
  const marks = variants.map(({ run, name, madds, lift }, i): Mark => {
    const [y, d] = [100 * lift.mean, 100 * lift.deviation];
    return {
      ...{ name, label: name, colour: hue(i), shape: run === "recipe" ? "diamond" : "circle", x: madds / 1e6, y },
      ...(lift.seeds > 1 && { whisker: [y - d, y + d] }),
    };
  });
  const xs = marks.map(({ x }) => x);
  const zero: [number, number][] = [
    [Math.min(...xs), 0],
    [Math.max(...xs), 0],
  ];
  const label = "Dynamic minus the static envelope against MAdds";
  return standAlone(scatterPlot(label, "MAdds (M)", "points above the envelope", marks, zero));
}
