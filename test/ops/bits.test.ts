/** An output's bits depend on its own sums alone: not on the batch, its place, the threads, or how the record was run. */
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { backendOptions, backends } from "../support/backends.js";
import { type Case, type Data, draw, makeCase, randomOf } from "../support/case.js";
import { type CaseOp, casesOf, opsOf } from "../support/cases.js";
import { packPairs, pairRows, panelFloats } from "../support/reference.js";
import { assertSameBits, nameOf, runCase } from "./harness.js";

const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

// ---- batches ----

/** Tensors with one part for each image. `factors`: those too where the record says `per_image`. */
const IMAGES: Partial<Record<CaseOp, { tensors: string[]; factors?: string[] }>> = {
  conv: { tensors: ["x", "y"] },
  conv_dx: { tensors: ["dy", "dx"] },
  conv_bf16: { tensors: ["x", "y"] },
  to_bf16: { tensors: ["x", "y", "scale"] },
  depthwise: { tensors: ["x", "y"] },
  depthwise_dx: { tensors: ["dy", "dx"] },
  group_norm: { tensors: ["x", "y", "mean", "inv"] },
  group_norm_dx: { tensors: ["x", "dy", "dx", "mean", "inv"] },
  affine: { tensors: ["x", "y"], factors: ["scale", "shift"] },
  affine_dx: { tensors: ["x", "dy", "dx"], factors: ["scale", "shift", "dscale", "dshift"] },
  pool: { tensors: ["x", "y"] },
  pool_dx: { tensors: ["x", "dy", "dx"] },
  add: { tensors: ["a", "b", "y"] },
  add_dx: { tensors: ["a", "b", "dy", "da", "db"] },
  softmax: { tensors: ["x", "y"] },
  cross_entropy: { tensors: ["x", "labels", "probs", "loss", "dx"] },
};

function imageTensors(op: CaseOp, c: Case): string[] {
  const { tensors, factors = [] } = IMAGES[op]!;
  return c.words.per_image ? [...tensors, ...factors] : tensors;
}

const slice = <T extends Data>(data: T, image: number, n: number): T =>
  data.slice((image * data.length) / n, ((image + 1) * data.length) / n) as T;

const mapFields = <T>(fields: Readonly<Record<string, T>>, map: (value: T, field: string) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, map(value, field)]));

/** The case with one of its images alone. */
function imageOf(op: CaseOp, c: Case, image: number): Case {
  const n = c.words.n!;
  const cut = imageTensors(op, c);
  return {
    ...c,
    words: { ...c.words, n: 1 },
    inputs: mapFields(c.inputs, (data, field) => (cut.includes(field) ? slice(data, image, n) : data)),
    outputs: mapFields(c.outputs, (output, field) => {
      if (!cut.includes(field)) return output;
      return { ...output, size: output.size / n, ...(output.before && { before: slice(output.before, image, n) }) };
    }),
  };
}

// ---- rows ----

/** A 1x1 convolution of so many rows of k words, as images of one pixel. */
function rowsCase(op: "conv" | "conv_bf16" | "conv_dx", x: Data, k: number, columns: number): Case {
  const rows = x.length / k;
  const random = randomOf("rows", op, k, columns);
  const pixel = { n: rows, h: 1, width: 1, kernel: 1, stride: 1, pad: 0, oh: 1, ow: 1 };
  const output = { size: rows * columns };
  if (op === "conv_bf16") {
    const words = { ...pixel, cin: 2 * k, cout: columns, cin_max: 2 * k, act: 0 };
    const w = packPairs({ cin: 2 * k, cout: columns, taps: 1 }, draw(random, 2 * k * columns));
    return makeCase(op, words, { x, w }, { y: output }, () => ({}));
  }
  const weight = draw(random, panelFloats({ cin: k, cout: columns, taps: 1 }));
  if (op === "conv") {
    const words = { ...pixel, cin: k, cout: columns, cin_max: k, act: 0 };
    return makeCase(op, words, { x, w: weight }, { y: output }, () => ({}));
  }
  const words = { ...pixel, cin: columns, cout: k, cout_max: k, accumulate: 0 };
  return makeCase(op, words, { dy: x, wt: weight }, { dx: output }, () => ({}));
}

for (const { name, backend } of all) {
  describe(name, () => {
    for (const op of opsOf(backend).filter((op) => op in IMAGES)) {
      it(`${op}: an image's result in a batch is its result alone`, () => {
        for (const c of casesOf(op)) {
          const n = c.words.n!;
          if (n === 1) continue;
          const batch = runCase(backend, c);
          for (let image = 0; image < n; image++) {
            const alone = runCase(backend, imageOf(op, c, image));
            for (const field of Object.keys(c.outputs).filter((f) => imageTensors(op, c).includes(f))) {
              const what = () => `${c.name}: ${field} of image ${image}`;
              assertSameBits(slice(batch[field]!, image, n), alone[field]!, what);
            }
          }
        }
      });
    }

    it("a batch size given to the run is as good as one in the record", () => {
      for (const c of opsOf(backend).flatMap(casesOf)) {
        if (c.words.n === undefined) continue;
        const open = runCase(backend, c, { openBatch: true });
        for (const [field, want] of Object.entries(runCase(backend, c))) {
          assertSameBits(open[field]!, want, () => `${c.name}: ${field}`);
        }
      }
    });

    for (const op of ["conv", "conv_bf16", "conv_dx"] as const) {
      if (!opsOf(backend).includes(op)) continue;
      it(`${op}: a row does not depend on how many rows there are, nor on its place among them`, () => {
        for (const [k, columns] of [
          [1, 1],
          [7, 5],
          [9, 40],
          [3, 150],
        ] as const) {
          const most = 600; // beyond the number that changes the size of a block
          const random = randomOf("rows", k, columns);
          const x = op === "conv_bf16" ? pairRows(draw(random, 2 * most * k), 2 * k) : draw(random, most * k);
          const run = (rows: Data) => Object.values(runCase(backend, rowsCase(op, rows, k, columns)))[0]!;
          const want = run(x);
          for (const rows of [...Array(26).keys(), 47, 48, 49, 191, 192, 193, 383, 384, 385].slice(1)) {
            assertSameBits(
              run(x.slice(0, rows * k)),
              want.slice(0, rows * columns),
              () => `${rows} rows, ${k} to ${columns}`,
            );
            assertSameBits(
              run(x.slice(rows * k)),
              want.slice(rows * columns),
              () => `but ${rows} rows, ${k} to ${columns}`,
            );
          }
        }
      });
    }
  });
}

// ---- threads ----

for (const { name, options } of backendOptions(1).filter(({ options }) => options.threads === 1)) {
  describe(`${name}: 1, 2 and 4 threads leave the same bytes`, async () => {
    const [single, ...others] = await Promise.all([1, 2, 4].map((threads) => openBackend({ ...options, threads })));
    after(() => {
      for (const backend of [single!, ...others]) backend.dispose();
    });
    for (const op of opsOf(single!)) {
      it(op, () => {
        for (const c of casesOf(op)) {
          const want = runCase(single!, c);
          for (const backend of others) {
            const got = runCase(backend, c);
            for (const [field, data] of Object.entries(want)) {
              assertSameBits(got[field]!, data, () => `${nameOf(backend)}: ${c.name}: ${field}`);
            }
          }
        }
      });
    }
  });
}
