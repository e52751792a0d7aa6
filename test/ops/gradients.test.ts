/**
 * The reference's gradients are right: each agrees with central differences of the reference's forward, in float64. (That the
 * kernels agree with the reference is conformance.test.ts.)
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Philox } from "../../src/random/philox.js";
import { draw, drawFactors, randomOf } from "../support/case.js";
import { caseOps } from "../support/cases.js";
import {
  add,
  addDx,
  affine,
  affineDx,
  batchNormShape,
  type ConvShape,
  columnSum,
  convolution,
  convolutionDw,
  convolutionDx,
  convSizes,
  crossEntropy,
  epilogue,
  groupNormShape,
  type NormShape,
  norm,
  normDx,
  outputSize,
  type PoolShape,
  pool,
  poolDx,
  Sums,
  smoothLabels,
} from "../support/reference.js";

const STEP = 1e-5;

type Values = Float64Array;
type Inputs = Record<string, Values>;
/** A function of named inputs, and for a gradient `dy` of its output the gradients of some of them. */
interface Differentiable {
  readonly inputs: Inputs;
  readonly forward: (inputs: Inputs) => Values;
  readonly backward: (inputs: Inputs, dy: Values) => Inputs;
}

/** Central differences of sum(dy * forward) by each element of one input. */
function differences({ inputs, forward }: Differentiable, field: string, dy: Values): Values {
  const total = (values: Values) =>
    forward({ ...inputs, [field]: values }).reduce((sum, y, at) => sum + y * dy[at]!, 0);
  return inputs[field]!.map((_, at) => {
    const moved = (by: number) => total(inputs[field]!.map((v, i) => (i === at ? v + by : v)));
    return (moved(STEP) - moved(-STEP)) / (2 * STEP);
  });
}

function check(random: Philox, f: Differentiable, what: string): void {
  const dy = float64(draw(random, f.forward(f.inputs).length));
  for (const [field, gradient] of Object.entries(f.backward(f.inputs, dy))) {
    const want = differences(f, field, dy);
    const scale = want.reduce((most, v) => Math.max(most, Math.abs(v)), 1);
    gradient.forEach((got, at) => {
      assert.ok(
        Math.abs(got - want[at]!) <= 1e-7 * scale,
        `${what}: d${field}[${at}] is ${got}, differences say ${want[at]}`,
      );
    });
  }
}

const float64 = (values: Float32Array): Values => Float64Array.from(values);
const drawn = (random: Philox, size: number): Values => float64(draw(random, size));
const factors = (random: Philox, size: number): Values => float64(drawFactors(random, size));
/** Distinct by far more than a step, in random order: no maximum changes hands. */
const distinct = (random: Philox, size: number): Values => {
  const values = Float64Array.from({ length: size }, (_, at) => at / size);
  random.shuffle(values);
  return values;
};

function convolutions(random: Philox, depthwise: boolean): Differentiable[] {
  return [1, 2, 3, 5].flatMap((kernel) =>
    [1, 2].map((stride) => {
      const channels = depthwise ? { cin: 3, cout: 3 } : { cin: 2, cout: 3 };
      const s: ConvShape = { n: 2, h: 5, width: 4, ...channels, kernel, stride, pad: kernel >> 1, depthwise };
      const sizes = convSizes(s);
      return {
        inputs: { x: drawn(random, sizes.x), w: drawn(random, sizes.w) },
        forward: ({ x, w }) => convolution(s, x!, w!).value,
        backward: ({ x, w }, dy) => ({ x: convolutionDx(s, dy, w!).value, w: convolutionDw(s, x!, dy).value }),
      };
    }),
  );
}

const norms = (random: Philox, s: NormShape): Differentiable[] =>
  [0, 1, 2, 3].map((act) => ({
    inputs: { x: drawn(random, s.rows * s.c), gamma: factors(random, s.c), beta: drawn(random, s.c) },
    forward: ({ x, gamma, beta }) => norm(s, x!, gamma!, beta!, 1e-5, act).y,
    backward: ({ x, gamma, beta }, dy) => {
      const { mean, inv } = norm(s, x!, gamma!, beta!, 1e-5, act);
      const { dx, dgamma, dbeta } = normDx(s, x!, dy, gamma!, beta!, mean, inv, act);
      return { x: dx.value, gamma: dgamma.value, beta: dbeta.value };
    },
  }));

const affines = (random: Philox): Differentiable[] =>
  [false, true].flatMap((perImage) =>
    [0, 1, 2, 3].map((act) => {
      const s = { n: 2, hw: 3, c: 4, perImage };
      const size = (perImage ? s.n : 1) * s.c;
      return {
        inputs: { x: drawn(random, 24), scale: factors(random, size), shift: drawn(random, size) },
        forward: ({ x, scale, shift }) => affine(s, x!, scale!, shift!, act).value,
        backward: ({ x, scale, shift }, dy) => {
          const { dx, dscale, dshift } = affineDx(s, x!, dy, scale!, shift!, act);
          return { x: dx.value, scale: dscale.value, shift: dshift.value };
        },
      };
    }),
  );

const pools = (random: Philox): Differentiable[] =>
  (["average", "maximum"] as const).flatMap((kind) =>
    [
      { kernel: 2, stride: 2, pad: 0, oh: 3, ow: 2 },
      { kernel: 3, stride: 2, pad: 1, oh: outputSize(5, 3, 2, 1), ow: outputSize(4, 3, 2, 1) },
      { kernel: 0, stride: 1, pad: 0, oh: 1, ow: 1 },
    ].map((window) => {
      const s: PoolShape = { n: 2, h: 5, width: 4, c: 3, kind, ...window };
      return {
        inputs: { x: distinct(random, 2 * 5 * 4 * 3) },
        forward: ({ x }) => pool(s, x!).value,
        backward: ({ x }, dy) => ({ x: poolDx(s, x!, dy).value }),
      };
    }),
  );

const sums = (random: Philox): Differentiable[] =>
  [0, 1, 2, 3].flatMap((act) =>
    [
      [3, 5],
      [5, 3],
      [4, 4],
    ].map(([ca, cb]) => {
      const rows = 3;
      return {
        inputs: { a: drawn(random, rows * ca!), b: drawn(random, rows * cb!) },
        forward: ({ a, b }) => add(rows, a!, ca!, b!, cb!, act).value,
        backward: ({ a, b }, dy) => {
          const { da, db } = addDx(rows, a!, ca!, b!, cb!, dy, act);
          return { a: da.value, b: db.value };
        },
      };
    }),
  );

/** The gradient of a bias is the column sum of dy. */
const biases = (random: Philox): Differentiable[] => [
  {
    inputs: { shift: drawn(random, 5) },
    forward: ({ shift }) => epilogue(new Sums(7 * 5), 5, null, shift!, 0).value,
    backward: (_, dy) => ({ shift: columnSum(7, dy, 5).value }),
  },
];

const losses = (random: Philox): Differentiable[] =>
  [smoothLabels([1, 4], 5, 0), smoothLabels([0, 3], 5, 0.1), drawn(random, 10)].map((target) => ({
    inputs: { x: drawn(random, 10).map((v) => 3 * v) },
    forward: ({ x }) => crossEntropy(2, x!, 5, target).loss.value,
    backward: ({ x }, dy) => ({ x: crossEntropy(2, x!, 5, target).dx.map((v, at) => v * dy[Math.floor(at / 5)]!) }),
  }));

const gradients: Record<string, (random: Philox) => Differentiable[]> = {
  "conv_dx conv_dw": (random) => convolutions(random, false),
  "depthwise_dx depthwise_dw": (random) => convolutions(random, true),
  batch_norm_dx: (random) => norms(random, batchNormShape(7, 3)),
  group_norm_dx: (random) => norms(random, groupNormShape(2, 4, 7, 3)),
  affine_dx: affines,
  pool_dx: pools,
  add_dx: sums,
  column_sum: biases,
  cross_entropy: losses,
};

describe("gradients of the reference", () => {
  for (const [ops, build] of Object.entries(gradients)) {
    it(`${ops} agrees with central differences in float64`, () => {
      for (const seed of [1, 2, 3]) {
        const random = randomOf("gradients", ops, seed);
        for (const [index, f] of build(random).entries()) check(random, f, `seed ${seed}, function ${index}`);
      }
    });
  }

  it("no op with a gradient is left out", () => {
    const covered = Object.keys(gradients).flatMap((ops) => ops.split(" "));
    for (const op of caseOps) if (/_d[xw]$/.test(op)) assert.ok(covered.includes(op), `no differences for ${op}`);
  });
});
