/** What the trainings were to reach, and whether they did. */
import { interval, markdown, percent, points } from "./cells.js";
import { type Figure, isWidth, type Record, reported } from "./record.js";

/** Top-1 % of the widest numbered width, by the record's folder; the other aims are every record's. */
const WIDEST: { readonly [record: string]: number } = { cifar10: 92.5, "cifar10-long": 93.5, fashion: 94 };

/** What a training is reported by. */
interface Reported {
  /** By name. */
  at(what: string): Figure | undefined;
  /** Narrowest first. */
  widths: readonly Figure[];
}

/** Null where the record has not what it takes. */
type Judged = { shown: string; met: boolean } | null;

const AIMS: readonly [name: string, judge: (reported: Reported, record: string) => Judged][] = [
  [
    "widest: top-1 %",
    ({ widths }, record) => {
      const [value, aim] = [widths.at(-1)?.value, WIDEST[record]];
      if (value == null || aim === undefined) return null;
      return { shown: `${percent(value)} (aim: ${aim.toFixed(1)})`, met: 100 * value >= aim };
    },
  ],
  [
    "dynamic: at most a third of the widest's MAdds",
    ({ at, widths }) => {
      const [some, all] = [at("dynamic")?.madds, widths.at(-1)?.madds];
      if (some == null || all == null) return null;
      return { shown: `${((100 * some) / all).toFixed(1)} %`, met: some <= all / 3 };
    },
  ],
  [
    "dynamic: at least 60 % of the gap between envelope and widest",
    ({ at }) => {
      const value = at("gap recovered")?.value;
      return value == null ? null : { shown: `${(100 * value).toFixed(1)} %`, met: value >= 0.6 };
    },
  ],
  [
    "dynamic minus envelope: above 0, paired 95 % interval too",
    ({ at }) => {
      const lift = at("dynamic - envelope");
      return lift?.low == null ? null : { shown: interval(lift), met: lift.low > 0 };
    },
  ],
  [
    "dynamic minus widest: at least -0.3 points",
    ({ at }) => {
      const lag = at("dynamic - widest");
      return lag?.value == null ? null : { shown: interval(lag), met: lag.value >= -0.003 };
    },
  ],
  [
    "slimmest, middle, widest minus the same trained alone: at least -1.0 point each",
    ({ at, widths }) => {
      const three = [0, Math.floor((widths.length - 1) / 2), widths.length - 1];
      const minus = three.map((k) => at(`width ${k} - alone`)?.value).filter((value) => value != null);
      return minus.length < three.length
        ? null
        : { shown: minus.map(points).join(", "), met: minus.every((value) => value >= -0.01) };
    },
  ],
  [
    "saving in time: at least 90 % of the saving in MAdds",
    ({ at }) => {
      const [time, madds] = [at("saving in time")?.value, at("saving in MAdds")?.value];
      if (time == null || madds == null) return null;
      return { shown: `${((100 * time) / madds).toFixed(1)} %`, met: time >= 0.9 * madds };
    },
  ],
];

/** A column for each training, by its folder. */
export function aimsTable(records: ReadonlyMap<string, Record>): string {
  const rows = AIMS.map(([name, judge]) => [
    name,
    ...[...records].map(([folder, { figures }]) => {
      const rows = reported(figures);
      const at = (what: string) => rows.find((row) => row.what === what);
      const judged = judge({ at, widths: rows.filter(isWidth) }, folder);
      return judged === null ? "not measured" : `${judged.shown}: ${judged.met ? "met" : "**missed**"}`;
    }),
  ]);
  return markdown(["aim", ...records.keys()], rows);
}
