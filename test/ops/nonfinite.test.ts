/** NaN is never lost on its way through a kernel: a diverged step must show. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { backends } from "../support/backends.js";
import { type Case, draw, makeCase, randomOf } from "../support/case.js";
import { type CaseOp, casesOf } from "../support/cases.js";
import { runCase } from "./harness.js";

const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

/** An input, the output that all of its elements reach, and the cases to try. */
const PATHS: [op: CaseOp, input: string, output: string][] = [
  ["conv_dx", "dy", "dx"],
  ["conv_dw", "x", "dw"],
  ["depthwise_dw", "x", "dw"],
  ["batch_norm", "x", "y"],
  ["batch_norm_dx", "dy", "dx"],
  ["group_norm", "x", "y"],
  ["affine", "x", "y"],
  ["affine_dx", "dy", "dx"],
  ["pool", "x", "y"],
  ["add", "a", "y"],
  ["add_dx", "dy", "da"],
  ["softmax", "x", "y"],
  ["cross_entropy", "x", "loss"],
  ["column_sum", "x", "y"],
  ["sgd", "g", "p"],
  ["ema", "s", "t"],
];

/** The case with every value of an input a NaN with a payload, as a file may bring it. */
const poisoned = (c: Case, input: string): Case => ({
  ...c,
  inputs: { ...c.inputs, [input]: new Float32Array(new Uint32Array(c.inputs[input]!.length).fill(0x7fc0beef).buffer) },
});

for (const { name, backend } of all) {
  describe(name, () => {
    for (const [op, input, output] of PATHS) {
      it(`${op}: NaN in ${input} shows in ${output}`, () => {
        for (const c of casesOf(op).filter((c) => c.outputs[output])) {
          const got = runCase(backend, poisoned(c, input))[output]!;
          assert.ok(got.some(Number.isNaN), c.name);
        }
      });
    }

    it("one NaN passes every activation, and a maximum, wherever it is", () => {
      for (let at = 0; at < 19; at++) {
        const x = draw(randomOf("nonfinite", at), 19);
        x[at] = Number.NaN;
        const only = (data: ArrayLike<number>) => Array.from(data, Number.isNaN).indexOf(true);
        for (const act of [0, 1, 2, 3]) {
          const words = { n: 1, hw: 1, c: 19, per_image: 0, act };
          const c = makeCase("affine", words, { x }, { y: { size: 19 } }, () => ({}));
          assert.equal(only(runCase(backend, c).y!), at, `activation ${act}`);
        }
        const window = { kernel: 19, stride: 1, pad: 0, oh: 1, ow: 1, kind: 1 };
        const words = { n: 1, h: 1, width: 19, c: 1, ...window };
        const c = makeCase("pool", words, { x }, { y: { size: 1 } }, () => ({}));
        assert.ok(Number.isNaN(runCase(backend, c).y![0]), `maximum, NaN at ${at}`);
      }
    });
  });
}
