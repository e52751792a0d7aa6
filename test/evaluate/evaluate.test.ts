import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DataError, ShapeError, UsageError } from "../../src/errors.js";
import { pointOf } from "../../src/evaluate/calibrate.js";
import { falling } from "../../src/evaluate/calibrate-routes.js";
import { chooseCascade, curvesOf } from "../../src/evaluate/cascade.js";
import { type Evaluation, evaluate, type RowKind } from "../../src/evaluate/evaluate.js";
import type { Predictions, WidthPredictions } from "../../src/evaluate/predictions.js";
import { formatEvaluation } from "../../src/evaluate/table.js";
import { bits, build, route, uniform } from "./build.js";

const row = (e: Evaluation, kind: RowKind) => e.rows.find((r) => r.kind === kind)!;
const close = (got: number | null, expected: number) =>
  assert.ok(got !== null && Math.abs(got - expected) < 1e-12, `expected ${expected}, got ${got}`);

// Ten images; accuracies 0.5, 0.6, 0.9 at 10, 20, 30 MAdds: width 1 lies below the chord.
const three = () =>
  build([
    { madds: 10, correct: bits("1111100000") },
    { madds: 20, correct: bits("1111010001") },
    { madds: 30, correct: bits("1111111110") },
  ]);

describe("evaluate", () => {
  it("has a row for every numbered width and for largest", () => {
    const p = three();
    p.largest = { madds: 90, correct: bits("1111111111") };
    const e = evaluate(p);
    assert.deepEqual(
      e.rows.map((r) => [r.kind, r.width, r.madds, r.accuracy]),
      [
        ["width", 0, 10, 0.5],
        ["width", 1, 20, 0.6],
        ["width", 2, 30, 0.9],
        ["largest", undefined, 90, 1],
        ["oracle", undefined, 18, 1], // 5 images at 10, 2 at 20, 3 at 30
      ],
    );
    assert.equal(e.rows[1]!.note, "below the envelope");
    assert.equal(e.dynamic, null);
  });

  it("holds dynamic, gate included, against the envelope at dynamic's own mean MAdds", () => {
    const p = three();
    p.dynamic = route(p, [0, 0, 0, 0, 0, 2, 2, 2, 2, 0], 4); // perfect on 9: mean 10 + 0.4·20 + 4 = 22
    const e = evaluate(p);
    close(row(e, "dynamic").madds, 22);
    close(row(e, "dynamic").accuracy, 0.9);
    close(row(e, "envelope").madds, 22);
    close(row(e, "envelope").accuracy, 0.5 + 0.6 * 0.4);
    assert.equal(row(e, "envelope").note, "40 % width 0, 60 % width 2, at random");
    close(e.dynamic!.minusEnvelope.difference, 0.9 - 0.74);
    close(e.dynamic!.gapRecovered, 1);
    assert.equal(e.dynamic!.minusNearest.width, 2);
    assert.equal(e.dynamic!.minusWidest.width, 2);
    close(e.dynamic!.minusWidest.difference, 0);
  });

  it("deals the same histogram out at random, in expectation and without a gate", () => {
    const p = three();
    p.dynamic = route(p, [0, 0, 0, 0, 0, 1, 1, 2, 2, 2], 4);
    const random = row(evaluate(p), "random");
    close(random.madds, 0.5 * 10 + 0.2 * 20 + 0.3 * 30);
    close(random.accuracy, 0.5 * 0.5 + 0.2 * 0.6 + 0.3 * 0.9);
  });

  it("has no gap to recover where the widest is not above the envelope", () => {
    const p = build([
      { madds: 10, correct: bits("1110") },
      { madds: 20, correct: bits("1000") },
    ]);
    p.dynamic = route(p, [0, 0, 0, 1]);
    const e = evaluate(p);
    assert.equal(e.dynamic!.gapRecovered, null);
    close(row(e, "envelope").accuracy, 0.75);
    assert.match(row(e, "envelope").note, /best for at most/);
  });

  it("counts routes over all images and per class of the label", () => {
    const p = three(); // labels 0 1 0 1 ...
    p.dynamic = { ...route(p, [0, 2, 0, 2, 0, 2, 0, 0, 0, 0]), candidates: [2, 0] };
    const { routes } = evaluate(p).dynamic!;
    assert.deepEqual(routes, {
      candidates: [0, 2],
      overall: [7, 3],
      perClass: [
        [5, 0],
        [2, 3],
      ],
    });
  });

  it("scores the gate on whether the slimmest candidate is right", () => {
    const p = three();
    const scores = [9, 9, 9, 9, 5, 5, 1, 1, 1, 1];
    p.dynamic = route(p, [0, 0, 0, 0, 0, 2, 2, 2, 2, 2], 0, scores); // one tie among 25 pairs
    assert.equal(evaluate(p).dynamic!.auc.gate, 24.5 / 25);
    p.dynamic = { ...p.dynamic, candidates: [1, 2], choice: new Int32Array(10).fill(2) }; // now width 1 says what is easy
    const easy = [0, 1, 2, 3, 5, 9].map((i) => scores[i]!);
    const hard = [4, 6, 7, 8].map((i) => scores[i]!);
    const wins = easy
      .flatMap((s) => hard.map((t) => (s > t ? 1 : s === t ? 0.5 : 0)))
      .reduce<number>((a, b) => a + b, 0);
    close(evaluate(p).dynamic!.auc.gate!, wins / 24);
  });

  it("raises the collapse alarm above 99 % at one width, and not at 99 %", () => {
    const wide = (n: number) => ({ madds: 20, correct: new Uint8Array(n).fill(1) });
    for (const [others, alarm] of [
      [1, true],
      [2, false],
    ] as const) {
      const p = build([{ madds: 10, correct: new Uint8Array(200) }, wide(200)]);
      p.dynamic = route(
        p,
        Array.from({ length: 200 }, (_, i) => (i < others ? 0 : 1)),
      );
      const { collapse } = evaluate(p).dynamic!;
      assert.deepEqual(collapse, alarm ? { width: 1, share: 199 / 200 } : null);
    }
  });

  it("raises no alarm where the few images that went another way lift it above the envelope", () => {
    const n = 2000;
    const hard = 18; // right in the wide one alone
    const narrow = Uint8Array.from({ length: n }, (_, i) => (i < hard ? 0 : 1));
    const p = build([
      { madds: 10, correct: narrow },
      { madds: 20, correct: new Uint8Array(n).fill(1) },
    ]);
    const choice = (first: number) => Array.from({ length: n }, (_, i) => (i >= first && i < first + hard ? 1 : 0));
    p.dynamic = route(p, choice(0));
    assert.equal(evaluate(p).dynamic!.collapse, null);
    p.dynamic = route(p, choice(hard)); // as many, none of them hard
    assert.deepEqual(evaluate(p).dynamic!.collapse, { width: 0, share: (n - hard) / n });
  });

  it("pools the choices of several gates, takes what was dealt out blindly for random, and tells routes apart", () => {
    const p = build([
      { madds: 10, correct: bits("1010") },
      { madds: 20, correct: bits("1110") },
    ]); // labels 0 1 0 1
    const blind = { madds: Float64Array.of(12, 14, 16, 18), correct: bits("1000") };
    p.dynamic = { ...route(p, [0, 1, 0, 1]), choice: Int32Array.of(0, 1, 1, 1, 0, 0, 0, 1), blind };
    p.routes = [
      { route: [0, 1], madds: 14, correct: bits("1100") },
      { route: [1, 0], madds: 16, correct: bits("1111") },
    ];
    const e = evaluate(p);
    assert.deepEqual(e.dynamic!.routes, {
      candidates: [0, 1],
      overall: [4, 4],
      perClass: [
        [3, 1],
        [1, 3],
      ],
    });
    assert.deepEqual([row(e, "random").madds, row(e, "random").accuracy], [15, 0.25]);
    assert.deepEqual([row(e, "routes").madds, row(e, "routes").accuracy], [15, 0.75]);
    assert.equal(row(e, "routes").note, "mean of 2, from 50.00 to 100.00 %");
    assert.equal(e.dynamic!.collapse, null);
    assert.match(formatEvaluation(e), /Routes: width 0 50\.0 %, width 1 50\.0 % of the choices of 2 gates\./);
    p.dynamic.choice = Int32Array.of(0, 1, 0, 1, 0, 1, 0, 1);
    assert.deepEqual(evaluate(p).dynamic!.collapse, { width: [0, 1], share: 1 });
    assert.match(formatEvaluation(evaluate(p)), /COLLAPSED: route 0, 1 takes 100\.0 %/);
  });

  it("gives a dynamic net that is one width exactly that width's figures", () => {
    const p = three();
    p.dynamic = route(p, new Array(10).fill(2));
    const e = evaluate(p);
    for (const kind of ["dynamic", "envelope", "random"] as const) {
      close(row(e, kind).madds, 30);
      close(row(e, kind).accuracy, 0.9);
    }
    assert.equal(e.dynamic!.minusEnvelope.difference, 0);
  });

  it("orders oracle over every width, and envelope over random at random's cost", () => {
    const sample = fc.tuple(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 2 }));
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 60 }), (samples) => {
        const p = build(
          [0, 1, 2].map((k) => ({
            madds: 10 + 7 * k * k,
            correct: Uint8Array.from(samples, ([mask]) => (mask >> k) & 1),
          })),
        );
        p.dynamic = route(
          p,
          samples.map(([, width]) => width),
        );
        const e = evaluate(p);
        for (const r of e.rows) {
          if (r.kind !== "cascade") assert.ok(r.accuracy! <= row(e, "oracle").accuracy! + 1e-12, r.kind);
        }
        assert.ok(row(e, "envelope").accuracy! >= row(e, "random").accuracy! - 1e-9);
      }),
      { seed: 4 },
    );
  });

  it("covers the true lead over the envelope in about 95 % of validations, the bar's own sampling included", () => {
    // Half of the images are hard: width 0 is right on 90 % of the easy, 30 % of the hard; width 1 on 90 % and 80 %.
    // The gate sends each image to its side with probability 0.8, so in truth: mean cost 15, width 0 at 0.60, width 1 at
    // 0.85, the envelope half way at 0.725, dynamic (0.9 + 0.8·0.8 + 0.2·0.3) / 2 = 0.80.
    const next = uniform(11);
    let covered = 0;
    const repeats = 600;
    for (let repeat = 0; repeat < repeats; repeat++) {
      const hard = Array.from({ length: 300 }, () => next() < 0.5);
      const p = build([
        { madds: 10, correct: Uint8Array.from(hard, (is) => Number(next() < (is ? 0.3 : 0.9))) },
        { madds: 20, correct: Uint8Array.from(hard, (is) => Number(next() < (is ? 0.8 : 0.9))) },
      ]);
      p.dynamic = route(
        p,
        hard.map((is) => Number(next() < 0.8 === is)),
      );
      const { low, high } = evaluate(p).dynamic!.minusEnvelope;
      covered += Number(low <= 0.075 && 0.075 <= high);
    }
    assert.ok(covered / repeats > 0.925 && covered / repeats < 0.98, `covered ${covered} of ${repeats}`);
  });
});

describe("confidence cascade", () => {
  /** A wider width is run in full. */
  const outcomes = ({ widths }: Predictions) => ({
    widths,
    confidence: widths[0]!.confidence,
    madds: widths.map(({ madds }, k) => (k === 0 ? madds : widths[0]!.madds + madds)),
  });
  const chosen = (p: Predictions, budget: number) => {
    return { ...chooseCascade(curvesOf(outcomes(p)), budget), madds: outcomes(p).madds };
  };
  const slim = {
    madds: 10,
    correct: bits("1110000000"),
    confidence: [0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
  };
  const wide = { madds: 30, correct: bits("1111111111") };
  const three = [slim, { madds: 20, correct: bits("1111100000") }, wide];

  it("is n/a, not tuned on validation, without held-out images", () => {
    const p = build(three);
    p.dynamic = route(p, new Array(10).fill(1));
    const cascade = row(evaluate(p), "cascade");
    assert.equal(cascade.madds, null);
    assert.equal(cascade.accuracy, null);
    assert.match(cascade.note, /n\/a: no table of cascades/);
  });

  it("pays what an image costs that goes on, and stays within dynamic's mean MAdds on the held-out images", () => {
    const p = build(three);
    p.dynamic = route(p, [0, 0, 0, 0, 0, 2, 2, 2, 2, 2], 2); // mean 22
    p.cascade = chosen(p, 22);
    const cascade = row(evaluate(p), "cascade");
    close(cascade.accuracy, 0.7); // the four least sure run again at width 2: 10 + 0.4·30 = 22
    close(cascade.madds, 22);
    assert.match(cascade.note, /width 0, then 2 below confidence 0\.450: 40\.0 % of the images/);
  });

  it("takes its threshold from other images alone", () => {
    const p = build(three);
    p.dynamic = route(p, new Array(10).fill(2)); // a budget of 30
    const elsewhere = bits("1111111111"); // there, going on never helps
    p.cascade = chosen(build([{ ...slim, correct: elsewhere }, { madds: 20, correct: elsewhere }, wide]), 30);
    const cascade = row(evaluate(p), "cascade");
    close(cascade.accuracy, 0.3);
    close(cascade.madds, 10);
    assert.match(cascade.note, /width 0 alone/);
  });

  it("is of the candidates alone, whose slimmest need not be width 0", () => {
    const sure = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
    const p = build([slim, { madds: 20, correct: bits("0001111111"), confidence: sure }, wide]);
    p.dynamic = { ...route(p, new Array(10).fill(1)), candidates: [1, 2] };
    p.cascade = { wider: 2, threshold: 0.35, madds: [20, 45] };
    const cascade = row(evaluate(p), "cascade");
    close(cascade.accuracy, 1);
    close(cascade.madds, 0.7 * 20 + 0.3 * 45);
    assert.match(cascade.note, /^width 1, then 2 below confidence 0\.350: 30\.0 % of the images$/);
    p.cascade.wider = 0;
    assert.throws(() => evaluate(p), /cascade\.wider: expected one of the candidates 1, 2, got 0/);
  });

  it("may be what chooses: the gate is then what it is compared with", () => {
    const p = build(three);
    const routing = { by: "cascade", wider: 2, threshold: 0.45 } as const;
    const choice = slim.confidence.map((c) => (c < 0.45 ? 2 : 0));
    p.dynamic = { ...route(p, choice), routing, easyScore: Float32Array.from(slim.confidence) };
    assert.match(row(evaluate(p), "gate").note, /n\/a: no table to set its λ by/);
    p.gate = route(p, [0, 0, 0, 1, 1, 2, 2, 2, 2, 2], 1);
    const found = evaluate(p);
    assert.match(row(found, "dynamic").note, /^width 0, then 2 below confidence 0\.450: 40\.0 % of the images$/);
    assert.equal(found.rows.filter(({ kind }) => kind === "cascade").length, 0);
    close(row(found, "gate").madds, (3 * 10 + 2 * 20 + 5 * 30) / 10 + 1);
    close(row(found, "gate").accuracy, 1);
    close(found.dynamic!.auc.confidence, 1); // the right ones are the three most confident
    assert.ok(found.dynamic!.auc.gate !== undefined);
  });

  it("does not part samples of equal confidence", () => {
    const tied = [{ ...slim, confidence: new Array(10).fill(0.5) }, wide];
    const p = build(tied);
    p.dynamic = route(p, new Array(10).fill(1)); // 30 would pay for six reruns
    p.cascade = chosen(p, 30);
    close(row(evaluate(p), "cascade").madds, 10);
  });

  it("is of the width that can gain most within the budget, by brute force", () => {
    const sample = fc.tuple(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 8 }));
    fc.assert(
      fc.property(
        fc.array(sample, { minLength: 2, maxLength: 30 }),
        fc.integer({ min: 10, max: 60 }),
        (samples, budget) => {
          const n = samples.length;
          const p = build(
            [10, 18, 40].map((madds, k) => ({
              madds,
              correct: Uint8Array.from(samples, ([mask]) => (mask >> k) & 1),
              confidence: samples.map(([, level]) => level / 8),
            })),
          );
          p.cascade = chosen(p, budget);
          p.dynamic = { ...route(p, new Array(n).fill(0)), madds: new Float64Array(n).fill(budget) };
          /** Every cascade that goes on at this width: threshold, cost, accuracy. */
          const cascades = (wider: WidthPredictions) =>
            Array.from({ length: 9 }, (_, level) => {
              const isUnsure = samples.map(([, own]) => own < level);
              const rights = isUnsure.map((again, i) => (again ? wider : p.widths[0]!).correct[i]!);
              const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
              const cost = 10 + (wider.madds * isUnsure.filter(Boolean).length) / n;
              return { all: isUnsure.every(Boolean), cost, accuracy: sum(rights) / n };
            }).filter(({ all }) => !all); // to send all on is no cascade
          /** The best mean of any two at the budget, or of one below it. */
          const height = (points: ReturnType<typeof cascades>) => {
            const [below, above] = [points.filter((a) => a.cost <= budget), points.filter((b) => b.cost > budget)];
            const means = below.flatMap((a) =>
              above.map((b) => a.accuracy + ((b.accuracy - a.accuracy) * (budget - a.cost)) / (b.cost - a.cost)),
            );
            return Math.max(...means, ...below.map(({ accuracy }) => accuracy));
          };
          const best = Math.max(...p.widths.map((wider) => height(cascades(wider))));
          const found = row(evaluate(p), "cascade");
          assert.ok(found.madds! <= budget + 1e-9);
          // It is one of a best width's, the costliest that fits and costs no more than that width's most accurate.
          const fits = p.widths.filter((wider) => {
            const points = cascades(wider);
            if (height(points) < best - 1e-12) return false;
            const top = Math.max(...points.map(({ accuracy }) => accuracy));
            const most = Math.min(budget, ...points.filter((a) => a.accuracy === top).map(({ cost }) => cost));
            const chosen = points.filter(({ cost }) => cost <= most).sort((a, b) => b.cost - a.cost)[0]!;
            return Math.abs(chosen.cost - found.madds!) < 1e-9 && Math.abs(chosen.accuracy - found.accuracy!) < 1e-9;
          });
          assert.ok(fits.length > 0);
        },
      ),
      { seed: 5 },
    );
  });
});

describe("evaluate refuses data that would make the table lie", () => {
  it("no samples, no widths, other lengths, descending widths", () => {
    assert.throws(() => evaluate(build([{ madds: 1, correct: bits("") }])), DataError);
    assert.throws(() => evaluate({ ...three(), widths: [] }), UsageError);
    const short = three();
    short.widths[1]!.correct = bits("1");
    assert.throws(() => evaluate(short), ShapeError);
    const reversed = three();
    reversed.widths.reverse();
    assert.throws(() => evaluate(reversed), /from slimmest to widest/);
  });

  it("correctness that labels and predictions contradict, confidence that is no probability", () => {
    const p = three();
    p.widths[0]!.predicted[0] = 1;
    assert.throws(() => evaluate(p), /correct\[0\] is 1, but class 1 was predicted for label 0/);
    const q = three();
    q.widths[0]!.confidence[3] = Number.NaN;
    assert.throws(() => evaluate(q), DataError);
  });

  it("a route outside the candidates, a label without a name", () => {
    const p = three();
    p.dynamic = { ...route(p, new Array(10).fill(1)), candidates: [0, 2] };
    assert.throws(() => evaluate(p), /expected candidates \(0, 2\), got width 1/);
    assert.throws(() => evaluate({ ...three(), classNames: ["one"] }), DataError);
    p.dynamic.candidates = [0, 1, 1, 2];
    assert.throws(() => evaluate(p), /each width once/);
  });
});

describe("a table of several gates' points", () => {
  const points = [
    { lambda: -2, madds: 60 },
    { lambda: -1, madds: 50 },
    { lambda: 0, madds: 52 },
    { lambda: 1, madds: 55 },
    { lambda: 2, madds: 40 },
  ];

  it("falls with λ, and keeps the λ by which the model chooses", () => {
    assert.deepEqual(
      falling(points, 0).map(({ lambda }) => lambda),
      [-2, 0, 2],
    );
    assert.deepEqual(
      falling(points, 2).map(({ lambda }) => lambda),
      [-2, -1, 2],
    );
  });

  it("says what that λ costs, and for one between two what the costlier does", () => {
    const calibration = falling(points, 0).map((point) => ({ ...point, accuracy: 0.5 }));
    const costs = [-3, -2, -1, 0, 3].map((lambda) => pointOf({ calibration }, { by: "gate", lambda })!.madds);
    assert.deepEqual(costs, [60, 60, 60, 52, 40]);
  });
});
