/** The table of kernel cases: every op's, seeded, built when first asked for. One run of it checks one backend. */
import type { Backend } from "../../src/backend/backend.js";
import type { Case } from "./case.js";
import {
  convBf16Cases,
  convCases,
  convDwCases,
  convDxCases,
  depthwiseCases,
  depthwiseDwCases,
  depthwiseDxCases,
  toBf16Cases,
  transposeCases,
} from "./cases-convolution.js";
import {
  addCases,
  addDxCases,
  columnSumCases,
  countNonfiniteCases,
  crossEntropyCases,
  emaCases,
  fillCases,
  poolCases,
  poolDxCases,
  sgdCases,
  softmaxCases,
} from "./cases-elementwise.js";
import {
  affineCases,
  affineDxCases,
  batchNormCases,
  batchNormDxCases,
  groupNormCases,
  groupNormDxCases,
} from "./cases-norm.js";

const builders = {
  conv: convCases,
  conv_dx: convDxCases,
  conv_dw: convDwCases,
  transpose: transposeCases,
  depthwise: depthwiseCases,
  depthwise_dx: depthwiseDxCases,
  depthwise_dw: depthwiseDwCases,
  batch_norm: batchNormCases,
  batch_norm_dx: batchNormDxCases,
  group_norm: groupNormCases,
  group_norm_dx: groupNormDxCases,
  affine: affineCases,
  affine_dx: affineDxCases,
  pool: poolCases,
  pool_dx: poolDxCases,
  add: addCases,
  add_dx: addDxCases,
  softmax: softmaxCases,
  cross_entropy: crossEntropyCases,
  column_sum: columnSumCases,
  sgd: sgdCases,
  ema: emaCases,
  fill: fillCases,
  count_nonfinite: countNonfiniteCases,
  conv_bf16: convBf16Cases,
  to_bf16: toBf16Cases,
};

export type CaseOp = keyof typeof builders;

/** Every op but `end` and `route`, which move no tensors. */
export const caseOps = Object.keys(builders) as CaseOp[];

/** Those that these kernels have. */
export const opsOf = (backend: Backend): CaseOp[] =>
  caseOps.filter((op) => backend.lacksBf16 === null || !op.endsWith("bf16"));

const built = new Map<CaseOp, Case[]>();

export function casesOf(op: CaseOp): Case[] {
  const known = built.get(op) ?? builders[op]();
  built.set(op, known);
  return known;
}
