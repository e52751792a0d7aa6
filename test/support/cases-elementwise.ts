/** Cases of pools, sums, losses, and the arithmetic on parameters. */
import { between, type Case, close, closeAdded, closeEach, draw, exact, makeCase, randomOf } from "./case.js";
import {
  add,
  addDx,
  columnSum,
  crossEntropy,
  outputSize,
  type PoolShape,
  pool,
  poolDx,
  type Sums,
  sgd,
  smoothLabels,
  softmax,
} from "./reference.js";

// ---- pools ----

/** Average 2x2 with the last window cut off at the edge, global, maximum 3x3; and what else the record can say. */
function* pools(): Generator<PoolShape> {
  const windows = [
    { kernel: 2, stride: 2, pad: 0, ceil: true },
    { kernel: 3, stride: 2, pad: 1, ceil: false },
    { kernel: 3, stride: 1, pad: 1, ceil: false },
    { kernel: 2, stride: 1, pad: 0, ceil: true },
    { kernel: 0, stride: 1, pad: 0, ceil: false },
  ];
  for (const { kernel, stride, pad, ceil } of windows) {
    for (const kind of ["average", "maximum"] as const) {
      if (kernel === 0 && kind === "maximum") continue;
      for (const [h, width] of [
        [1, 1],
        [1, 4],
        [2, 2],
        [3, 5],
        [7, 6],
        [11, 9],
      ] as const) {
        for (const c of [1, 3, 8, 17, 36]) {
          const size = (of: number) =>
            kernel === 0 ? 1 : ceil ? Math.ceil(of / stride) : outputSize(of, kernel, stride, pad);
          yield { n: 1 + (c % 3), h, width, c, kernel, stride, pad, oh: size(h), ow: size(width), kind };
        }
      }
    }
  }
}

const poolWords = ({ kind, ...words }: PoolShape) => ({ ...words, kind: kind === "average" ? 0 : 1 });

/** Every third case in steps of one, so that maxima tie. */
const drawPooled = (random: ReturnType<typeof randomOf>, size: number, index: number): Float32Array =>
  draw(random, size).map((v) => (index % 3 === 0 ? Math.round(v * 1.5) : v));

export const poolCases = (): Case[] =>
  [...pools()].map((s, index) => {
    const x = drawPooled(randomOf("pool", index), s.n * s.h * s.width * s.c, index);
    const y = { size: s.n * s.oh * s.ow * s.c };
    return makeCase("pool", poolWords(s), { x }, { y }, () => {
      const sums = pool(s, x);
      return { y: s.kind === "maximum" ? exact(sums.value) : close(sums) };
    });
  });

export const poolDxCases = (): Case[] =>
  [...pools()].map((s, index) => {
    const random = randomOf("pool_dx", index);
    const x = drawPooled(random, s.n * s.h * s.width * s.c, index);
    const dy = draw(random, s.n * s.oh * s.ow * s.c);
    const inputs = { dy, x: s.kind === "maximum" ? x : null };
    return makeCase("pool_dx", poolWords(s), inputs, { dx: { size: x.length } }, () => ({
      dx: close(poolDx(s, x, dy)),
    }));
  });

// ---- sums ----

const widths = [1, 3, 4, 8, 13, 16, 17, 40];

export function addCases(): Case[] {
  const cases: Case[] = [];
  for (const ca of widths) {
    for (const cb of widths) {
      const random = randomOf("add", ca, cb);
      const n = between(random, 1, 3);
      const hw = between(random, 1, 9);
      const a = draw(random, n * hw * ca);
      const b = draw(random, n * hw * cb);
      const act = random.int(4);
      const inPlaceOf = random.int(2) === 0 ? undefined : ca >= cb ? "a" : "b";
      const y = { size: n * hw * Math.max(ca, cb), ...(inPlaceOf && { inPlaceOf }) };
      cases.push(
        makeCase("add", { n, hw, ca, cb, act }, { a, b }, { y }, () => ({
          y: closeEach(add(n * hw, a, ca, b, cb, act).value),
        })),
      );
    }
  }
  const random = randomOf("add", "large");
  const [n, hw, ca, cb, act] = [2, 100, 300, 170, 1];
  const a = draw(random, n * hw * ca);
  const b = draw(random, n * hw * cb);
  cases.push(
    makeCase("add", { n, hw, ca, cb, act }, { a, b }, { y: { size: a.length } }, () => ({
      y: closeEach(add(n * hw, a, ca, b, cb, act).value),
    })),
  );
  return cases;
}

/** What is wanted, and whether the wider one's gradient takes the place of dy. */
const addends = [
  { wanted: ["da", "db"], inPlace: false },
  { wanted: ["da", "db"], inPlace: true },
  { wanted: ["da"], inPlace: true },
  { wanted: ["db"], inPlace: true },
];

export function addDxCases(): Case[] {
  const shapes = widths.flatMap((ca) => widths.map((cb) => [ca, cb] as const));
  return [...shapes, [300, 170] as const, [170, 300] as const, [300, 300] as const].flatMap(([ca, cb], shape) =>
    addends.map(({ wanted, inPlace }, index) => {
      const random = randomOf("add_dx", ca, cb, index);
      const n = between(random, 1, 3);
      const hw = Math.max(ca, cb) > 200 ? 70 : between(random, 1, 9);
      const inputs = {
        a: draw(random, n * hw * ca),
        b: draw(random, n * hw * cb),
        dy: draw(random, n * hw * Math.max(ca, cb)),
      };
      const act = (shape + index) % 4;
      const wide = ca >= cb ? "da" : "db";
      const output = (field: string, size: number) =>
        wanted.includes(field) ? { size, ...(inPlace && field === wide && { inPlaceOf: "dy" }) } : null;
      const outputs = { da: output("da", inputs.a.length), db: output("db", inputs.b.length) };
      return makeCase("add_dx", { n, hw, ca, cb, act }, inputs, outputs, () => {
        const { da, db } = addDx(n * hw, inputs.a, ca, inputs.b, cb, inputs.dy, act);
        return { da: closeEach(da.value, da.terms), db: closeEach(db.value, db.terms) };
      });
    }),
  );
}

export function columnSumCases(): Case[] {
  const cases: Case[] = [];
  for (const rows of [1, 2, 5, 63, 64, 65, 511, 512, 900]) {
    for (const c of widths) {
      const random = randomOf("column_sum", rows, c);
      const x = draw(random, rows * c);
      const before = draw(random, c);
      const expected = () => ({ y: closeAdded(columnSum(rows, x, c), before) });
      cases.push(makeCase("column_sum", { rows, c }, { x }, { y: { size: c, before } }, expected));
    }
  }
  return cases;
}

// ---- losses ----

const logits = (random: ReturnType<typeof randomOf>, size: number): Float32Array =>
  draw(random, size).map((v) => v * (size % 2 === 0 ? 3 : 30));

export function softmaxCases(): Case[] {
  const cases: Case[] = [];
  for (const c of [1, 2, 3, 4, 10, 14, 16, 17, 33, 100]) {
    for (const n of [1, 2, 5]) {
      const x = logits(randomOf("softmax", c, n), n * c);
      cases.push(
        makeCase("softmax", { n, c }, { x }, { y: { size: n * c } }, () => ({ y: closeEach(softmax(n, x, c)) })),
      );
    }
  }
  return cases;
}

export function crossEntropyCases(): Case[] {
  const cases: Case[] = [];
  for (const c of [2, 3, 4, 10, 16, 17, 33, 100]) {
    for (const n of [1, 2, 5]) {
      for (const kind of ["hard", "smooth", "soft", "unnormalised"]) {
        const random = randomOf("cross_entropy", c, n, kind);
        const x = logits(random, n * c);
        const smoothing = kind === "smooth" ? 0.125 : 0;
        const weight = 1 / 8;
        const labels = Int32Array.from({ length: n }, () => random.int(c));
        const probs =
          kind === "unnormalised" ? draw(random, n * c) : Float32Array.from(softmax(n, draw(random, n * c), c));
        const soft = kind === "soft" || kind === "unnormalised";
        const outputs = { loss: { size: n }, dx: { size: n * c } };
        const inputs = { x, labels: soft ? null : labels, probs: soft ? probs : null };
        cases.push(
          makeCase("cross_entropy", { n, c, smoothing, weight }, inputs, outputs, () => {
            const { loss, dx } = crossEntropy(n, x, c, soft ? probs : smoothLabels(labels, c, smoothing));
            return {
              loss: close(loss),
              // the difference of two probabilities of at most 1
              dx: { value: dx.map((v) => weight * v), tolerance: dx.map(() => 1e-6 * weight) },
            };
          }),
        );
      }
    }
  }
  return cases;
}

// ---- parameters ----

/** About the vector lengths, and more than one block. */
const counts = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 100, 40001];

export function sgdCases(): Case[] {
  const cases: Case[] = [];
  for (const count of counts) {
    for (const nesterov of [0, 1]) {
      for (const [momentum, decay] of [
        [0, 0],
        [0.875, 0],
        [0.875, 0.0625],
      ] as const) {
        const random = randomOf("sgd", count, nesterov, momentum ? 1 : 0, decay ? 1 : 0);
        const p = draw(random, count);
        const g = draw(random, count);
        const m = draw(random, count);
        const words = { count, nesterov, lr: 0.125, momentum, decay };
        const outputs = { p: { size: count, before: p }, m: { size: count, before: m } };
        cases.push(
          makeCase("sgd", words, { g }, outputs, () => {
            const next = sgd(p, g, m, words);
            return { p: close(next.p), m: close(next.m) };
          }),
        );
      }
    }
  }
  return cases;
}

export const emaCases = (): Case[] =>
  counts.map((count) => {
    const random = randomOf("ema", count);
    const t = draw(random, count);
    const s = draw(random, count);
    const decay = 0.984375; // exact, as float32 too
    return makeCase("ema", { count, decay }, { s }, { t: { size: count, before: t } }, () => {
      const value = Float64Array.from(t, (v, at) => decay * v + (1 - decay) * s[at]!);
      const terms = Float64Array.from(t, (v, at) => decay * Math.abs(v) + (1 - decay) * Math.abs(s[at]!));
      return { t: close({ value, terms } as Sums) };
    });
  });

export const fillCases = (): Case[] =>
  counts.flatMap((count) =>
    [0, 1.5].map((value) => {
      const expected = () => ({ x: exact(new Float64Array(count).fill(value)) });
      return makeCase("fill", { count, value }, {}, { x: { size: count } }, expected);
    }),
  );

export function countNonfiniteCases(): Case[] {
  const cases: Case[] = [];
  for (const count of counts) {
    for (const some of [false, true]) {
      const random = randomOf("count_nonfinite", count, some ? 1 : 0);
      const x = draw(random, count);
      x[random.int(count)] = 3.4e38;
      let bad = 0;
      for (let at = 0; some && at < count; at++) {
        if (random.int(3) > 0 && at < count - 1) continue;
        x[at] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][random.int(3)]!;
        bad++;
      }
      const expected = () => ({ result: exact(Float64Array.of(bad)) });
      cases.push(makeCase("count_nonfinite", { count }, { x }, { result: { size: 1, integer: true } }, expected));
    }
  }
  return cases;
}
