/** Cases of batch norm, group norm and affine, forward and backward. */
import type { Philox } from "../../src/random/philox.js";
import {
  between,
  type Case,
  close,
  closeAdded,
  closeEach,
  closeToScale,
  draw,
  drawFactors,
  makeCase,
  type Output,
  pick,
  randomOf,
} from "./case.js";
import { affine, affineDx, batchNormShape, groupNormShape, type NormShape, norm, normDx } from "./reference.js";

const EPS = 1e-5;
const maybe = <T>(random: Philox, value: T): T | null => (random.int(4) > 0 ? value : null);

/** dx, at times in dy's place. */
const gradientOf = (random: Philox, dy: Float32Array): Output => ({
  size: dy.length,
  ...(random.int(2) === 0 && { inPlaceOf: "dy" }),
});

/** Channel counts about the vector lengths, and rows about the blocks of 64. */
const channels = [1, 3, 4, 5, 8, 13, 16, 17, 24, 33];
const rowCounts = [1, 2, 3, 7, 63, 64, 65, 130];

/** Half the tensors far from zero: statistics must not lose digits to the mean. */
function drawOffCentre(random: Philox, size: number): Float32Array {
  const centre = random.int(2) * 10;
  return draw(random, size).map((v) => v + centre);
}

// ---- batch norm ----

/** Several chunks of statistics (from 512 rows on) and several blocks of rows; a single channel; more than one block wide. */
const manyRows = [
  { rows: 1100, c: 5 },
  { rows: 600, c: 300 },
  { rows: 2000, c: 17 },
  { rows: 513, c: 1 },
];

function* batches() {
  for (const rows of rowCounts) for (const c of channels) yield { rows, c };
  yield* manyRows;
}

function batchNormCase(random: Philox, rows: number, c: number): Case {
  const x = drawOffCentre(random, rows * c);
  const gamma = drawFactors(random, c);
  const beta = draw(random, c);
  const runs = random.int(2) === 0;
  const running = { mean: draw(random, c), variance: draw(random, c).map(Math.abs) };
  const momentum = 0.125; // exact, as float32 too
  const act = random.int(4);
  const words = { rows, c, act, eps: EPS, momentum };
  const outputs = {
    y: { size: rows * c },
    mean: { size: c },
    inv: { size: c },
    running_mean: runs ? { size: c, before: running.mean } : null,
    running_var: runs ? { size: c, before: running.variance } : null,
    batch_var: maybe(random, { size: c }),
  };
  return makeCase("batch_norm", words, { x, gamma, beta }, outputs, () => {
    const { y, mean, variance, inv, subtracted } = norm(batchNormShape(rows, c), x, gamma, beta, EPS, act);
    const unbiased = variance.map((v) => (rows > 1 ? (v * rows) / (rows - 1) : v));
    const moved = (before: Float32Array, to: Float64Array) =>
      to.map((v, at) => before[at]! + momentum * (v - before[at]!));
    return {
      y: closeToScale(y, { subtracted }),
      mean: closeToScale(mean),
      inv: closeEach(inv),
      running_mean: closeToScale(moved(running.mean, mean)),
      running_var: closeToScale(moved(running.variance, unbiased)),
      batch_var: closeEach(unbiased),
    };
  });
}

function normBackward(random: Philox, s: NormShape, op: string, shape: Record<string, number>): Case {
  const x = drawOffCentre(random, s.rows * s.c);
  const dy = draw(random, x.length);
  const gamma = drawFactors(random, s.c);
  const beta = draw(random, s.c);
  const act = random.int(4);
  const forward = norm(s, x, gamma, beta, EPS, act);
  const mean = Float32Array.from(forward.mean);
  const inv = Float32Array.from(forward.inv);
  const before = draw(random, s.c);
  const outputs = {
    dx: maybe(random, gradientOf(random, dy)),
    dgamma: maybe(random, { size: s.c, before }),
    dbeta: maybe(random, { size: s.c, before }),
  };
  if (!outputs.dx && !outputs.dgamma && !outputs.dbeta) outputs.dx = { size: x.length };
  return makeCase(op, { ...shape, act }, { x, dy, gamma, beta, mean, inv }, outputs, () => {
    const { dx, dgamma, dbeta } = normDx(s, x, dy, gamma, beta, mean, inv, act);
    const add = (v: number, at: number) => v + before[at]!;
    return {
      dx: closeToScale(dx.value, { cancelling: dx.terms }),
      dgamma: closeToScale(dgamma.value.map(add), { cancelling: dgamma.terms }),
      dbeta: closeToScale(dbeta.value.map(add), { cancelling: dbeta.terms }),
    };
  });
}

export const batchNormCases = (): Case[] =>
  [...batches()].map(({ rows, c }, index) => batchNormCase(randomOf("batch_norm", index), rows, c));

export const batchNormDxCases = (): Case[] =>
  [...batches()].map(({ rows, c }, index) =>
    normBackward(randomOf("batch_norm_dx", index), batchNormShape(rows, c), "batch_norm_dx", { rows, c }),
  );

// ---- group norm ----

function* groups(key: string) {
  for (const c of channels) {
    for (const group of [1, 3, 4, 8]) {
      for (const hw of [2, 9, 70]) {
        const random = randomOf(key, c, group, hw);
        yield { random, n: between(random, 1, 3), hw, c, group };
      }
    }
  }
  yield { random: randomOf(key, "one pixel"), n: 2, hw: 1, c: 20, group: 8 };
  yield { random: randomOf(key, "large"), n: 2, hw: 600, c: 40, group: 8 };
}

export const groupNormCases = (): Case[] =>
  [...groups("group_norm")].map(({ random, n, hw, c, group }) => {
    const s = groupNormShape(n, hw, c, group);
    const x = drawOffCentre(random, s.rows * c);
    const gamma = drawFactors(random, c);
    const beta = draw(random, c);
    const act = random.int(4);
    const y = { size: x.length, ...(random.int(3) === 0 && { inPlaceOf: "x" }) };
    const outputs = { y, mean: { size: s.sets }, inv: { size: s.sets } };
    return makeCase("group_norm", { n, hw, c, group, act, eps: EPS }, { x, gamma, beta }, outputs, () => {
      const { y, mean, inv, subtracted } = norm(s, x, gamma, beta, EPS, act);
      return { y: closeToScale(y, { subtracted }), mean: closeToScale(mean), inv: closeEach(inv) };
    });
  });

export const groupNormDxCases = (): Case[] =>
  [...groups("group_norm_dx")].map(({ random, n, hw, c, group }) =>
    normBackward(random, groupNormShape(n, hw, c, group), "group_norm_dx", { n, hw, c, group }),
  );

// ---- affine ----

function* affines(key: string) {
  for (const c of channels) {
    for (const act of [0, 1, 2, 3]) {
      for (const perImage of [false, true]) {
        const random = randomOf(key, c, act, perImage ? 1 : 0);
        const s = { n: between(random, 1, 3), hw: pick(random, [1, 4, 9, 65]), c, perImage };
        const factors = (perImage ? s.n : 1) * c;
        const scale = random.int(3) > 0 ? drawFactors(random, factors) : null;
        const shift = random.int(3) > 0 ? draw(random, factors) : null;
        yield { random, s, act, scale, shift };
      }
    }
  }
  for (const perImage of [false, true]) {
    const random = randomOf(key, "large", perImage ? 1 : 0);
    const s = { n: 3, hw: 180, c: 300, perImage };
    const factors = (perImage ? s.n : 1) * s.c;
    yield { random, s, act: 2, scale: drawFactors(random, factors), shift: draw(random, factors) };
  }
}

const affineWords = (s: { n: number; hw: number; c: number; perImage: boolean }, act: number) => ({
  n: s.n,
  hw: s.hw,
  c: s.c,
  per_image: s.perImage ? 1 : 0,
  act,
});

/** Activations over all of the range in which they are not 0 or 1 to the last bit. */
const activationCases = (): Case[] =>
  [0, 1, 2, 3].map((act) => {
    const x = Float32Array.from({ length: 1001 }, (_, at) => (at - 500) * 0.17);
    const s = { n: 1, hw: 1, c: x.length, perImage: false };
    const expected = () => ({ y: closeEach(affine(s, x, null, null, act).value) });
    return makeCase("affine", affineWords(s, act), { x }, { y: { size: x.length } }, expected);
  });

export const affineCases = (): Case[] => [
  ...activationCases(),
  ...[...affines("affine")].map(({ random, s, act, scale, shift }) => {
    const x = draw(random, s.n * s.hw * s.c);
    for (let at = 0; at < x.length; at += 5) x[at]! *= 20; // activations far out
    const y = { size: x.length, ...(random.int(3) === 0 && { inPlaceOf: "x" }) };
    return makeCase("affine", affineWords(s, act), { x, scale, shift }, { y }, () => {
      const sums = affine(s, x, scale, shift, act);
      return { y: closeEach(sums.value, scale || shift ? sums.terms : undefined) };
    });
  }),
];

export const affineDxCases = (): Case[] =>
  [...affines("affine_dx")].map(({ random, s, act, scale, shift }) => {
    const x = draw(random, s.n * s.hw * s.c);
    const dy = draw(random, x.length);
    const factors = (s.perImage ? s.n : 1) * s.c;
    const before = draw(random, factors);
    const factor = s.perImage ? { size: factors } : { size: factors, before };
    const outputs = {
      dx: maybe(random, gradientOf(random, dy)),
      dscale: maybe(random, factor),
      dshift: maybe(random, factor),
    };
    if (!outputs.dx && !outputs.dscale && !outputs.dshift) outputs.dscale = factor;
    return makeCase("affine_dx", affineWords(s, act), { x, dy, scale, shift }, outputs, () => {
      const { dx, dscale, dshift } = affineDx(s, x, dy, scale, shift, act);
      return {
        dx: closeEach(dx.value, dx.terms),
        dscale: s.perImage ? close(dscale) : closeAdded(dscale, before),
        dshift: s.perImage ? close(dshift) : closeAdded(dshift, before),
      };
    });
  });
