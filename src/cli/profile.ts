/** Where a training's time went, as tables. */
import type { ProfileReport } from "../train/profile.js";
import { table } from "./table.js";
import { formatCount, formatMadds, formatPercent, formatSeconds } from "./units.js";

const PARTS = { data: "waiting for data", step: "steps", evaluation: "evaluation", checkpoint: "checkpoints, logs" };

export function formatProfile({ steps, seconds, parts, ops }: ProfileReport): string {
  if (steps === 0) return "profile: no step of stage I was run";
  const where = table(
    [{ title: "stage I" }, { title: "time", align: "right" }, { title: "share", align: "right" }],
    parts.map(({ part, seconds, share }) => [PARTS[part], formatSeconds(seconds), formatPercent(share)]),
  );
  const titles = ["in a step", "calls", "ms", "share", "MAdds", "GMAC/s"];
  const what = table(
    titles.map((title, i) => ({ title, align: i === 0 ? "left" : "right" })),
    ops.map(({ name, calls, seconds, share, madds }) => [
      name,
      calls === 0 ? "" : formatCount(calls / steps),
      ((seconds * 1000) / steps).toFixed(2),
      formatPercent(share),
      ...(madds === 0 ? [] : [formatMadds(madds / steps), (madds / seconds / 1e9).toFixed(1)]),
    ]),
  );
  return `\n${where}\n\n${what}\n${formatCount(steps)} steps in ${formatSeconds(seconds)}\n`;
}
