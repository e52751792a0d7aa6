/** Slimmable weights: a prefix is as good as a weight of its own, to the bit, and changing width moves and allocates nothing. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { backends } from "../support/backends.js";
import { type Case, type Data, draw, type Output, randomOf } from "../support/case.js";
import { casesOf, opsOf } from "../support/cases.js";
import { packPairs, packPanels, unpackPairs, unpackPanels } from "../support/reference.js";
import { assertSameBits, runCase } from "./harness.js";

const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

/** The case with other words and tensors. */
const changed = (
  c: Case,
  words: Record<string, number>,
  inputs: Record<string, Data>,
  outputs: Record<string, Output> = c.outputs,
): Case => ({ ...c, words: { ...c.words, ...words }, inputs: { ...c.inputs, ...inputs }, outputs });

/** The first c of cMax columns. */
const narrowed = (data: Float32Array, c: number, cMax: number): Float32Array => data.filter((_, at) => at % cMax < c);

/** Rows of c made the prefixes of rows of cMax, random beyond. */
function widened(data: Float32Array, c: number, cMax: number): Float32Array {
  const wide = draw(randomOf("widen", c, cMax), (data.length / c) * cMax);
  data.forEach((v, at) => {
    wide[Math.floor(at / c) * cMax + (at % c)] = v;
  });
  return wide;
}

const widenedInputs = (c: Case, fields: string[], from: number, to: number): Record<string, Data> =>
  Object.fromEntries(
    fields.filter((field) => c.inputs[field]).map((f) => [f, widened(c.inputs[f] as Float32Array, from, to)]),
  );

/** Where the records have the widths of the sums (k, of kMax in the weight) and of the outputs (columns). */
const DENSE = {
  conv: { weight: "w", k: "cin", kMax: "cin_max", columns: "cout", output: "y" },
  conv_bf16: { weight: "w", k: "cin", kMax: "cin_max", columns: "cout", output: "y" },
  conv_dx: { weight: "wt", k: "cout", kMax: "cout_max", columns: "cin", output: "dx" },
  conv_dw: { weight: "dw", k: "cin", kMax: "cin_max", columns: "cout", output: "dw" },
} as const;

/** The (k, columns) prefix of a weight, packed as a weight of its own. */
function ownWeight<T extends Data>(c: Case, op: keyof typeof DENSE, packed: T): T {
  const { k, kMax, columns } = DENSE[op];
  const own = { cin: c.words[k]!, cout: c.words[columns]!, taps: c.words.kernel! ** 2 };
  const full = { ...own, cin: c.words[kMax]! };
  if (packed instanceof Int32Array) return packPairs(own, unpackPairs(full, own.cin, own.cout, packed)) as T;
  return packPanels(own, unpackPanels(full, own.cin, own.cout, packed as Float32Array)) as T;
}

function denseLaws(backend: Backend): void {
  for (const op of ["conv", "conv_bf16", "conv_dx"] as const) {
    if (!opsOf(backend).includes(op)) continue;
    const { weight, k, kMax, columns, output } = DENSE[op];

    it(`${op}: a prefix of a shared weight gives what a weight of its own gives`, () => {
      for (const c of casesOf(op)) {
        const own = changed(c, { [kMax]: c.words[k]! }, { [weight]: ownWeight(c, op, c.inputs[weight]!) });
        assertSameBits(runCase(backend, c)[output]!, runCase(backend, own)[output]!, () => c.name);
      }
    });

    it(`${op}: columns do not depend on how many there are`, () => {
      for (const c of casesOf(op)) {
        const narrow = c.words[columns]!;
        const inputs = op === "conv_bf16" ? Math.ceil(c.words[kMax]! / 2) : c.words[kMax]!;
        const wide = c.inputs[weight]!.length / (c.words.kernel! ** 2 * inputs);
        const { size, before } = c.outputs[output]!;
        const widest = changed(c, { [columns]: wide }, widenedInputs(c, ["scale", "shift"], narrow, wide), {
          [output]: { size: (size / narrow) * wide, ...(before && { before: widened(before, narrow, wide) }) },
        });
        const result = runCase(backend, widest)[output] as Float32Array;
        assertSameBits(runCase(backend, c)[output]!, narrowed(result, narrow, wide), () => c.name);
      }
    });
  }

  it("conv_dw: a prefix of a shared gradient gets what a gradient of its own gets", () => {
    for (const c of casesOf("conv_dw")) {
      const before = ownWeight(c, "conv_dw", c.outputs.dw!.before!);
      const own = changed(c, { cin_max: c.words.cin! }, {}, { dw: { size: before.length, before } });
      assertSameBits(ownWeight(c, "conv_dw", runCase(backend, c).dw!), runCase(backend, own).dw!, () => c.name);
    }
  });
}

function depthwiseLaws(backend: Backend): void {
  for (const [op, x, output] of [
    ["depthwise", "x", "y"],
    ["depthwise_dx", "dy", "dx"],
  ] as const) {
    it(`${op}: a channel does not depend on how many there are, nor on how wide the weight is`, () => {
      for (const c of casesOf(op)) {
        const { c: narrow, cmax: wide } = c.words as { c: number; cmax: number };
        const want = runCase(backend, c)[output] as Float32Array;
        const w = narrowed(c.inputs.w as Float32Array, narrow, wide);
        assertSameBits(runCase(backend, changed(c, { cmax: narrow }, { w }))[output]!, want, () => `${c.name}, alone`);
        const { before } = c.outputs[output]!;
        const widest = changed(c, { c: wide }, widenedInputs(c, [x, "scale", "shift"], narrow, wide), {
          [output]: {
            size: (want.length / narrow) * wide,
            ...(before && { before: widened(before, narrow, wide) }),
          },
        });
        const result = runCase(backend, widest)[output] as Float32Array;
        assertSameBits(narrowed(result, narrow, wide), want, () => `${c.name}, among ${wide}`);
      }
    });
  }

  it("depthwise_dw: a channel's gradient does not depend on how many there are, nor on how wide the weight is", () => {
    for (const c of casesOf("depthwise_dw")) {
      const { c: narrow, cmax: wide } = c.words as { c: number; cmax: number };
      const want = narrowed(runCase(backend, c).dw as Float32Array, narrow, wide);
      const before = narrowed(c.outputs.dw!.before!, narrow, wide);
      const alone = changed(c, { cmax: narrow }, {}, { dw: { size: before.length, before } });
      assertSameBits(runCase(backend, alone).dw!, want, () => `${c.name}, alone`);
      const widest = changed(c, { c: wide }, widenedInputs(c, ["x", "dy"], narrow, wide));
      assertSameBits(narrowed(runCase(backend, widest).dw as Float32Array, narrow, wide), want, () => c.name);
    }
  });
}

for (const { name, backend } of all) {
  describe(name, () => {
    denseLaws(backend);
    depthwiseLaws(backend);

    it("changing width copies no weight and allocates nothing", () => {
      const [cinMax, coutMax, kernel, size] = [24, 40, 3, 6];
      const random = randomOf("zero copy");
      backend.arena.scope(() => {
        const place = (data: Float32Array) => {
          const at = backend.arena.alloc(data.length * 4);
          backend.f32.set(data, at / 4);
          return at;
        };
        const plain = draw(random, cinMax * coutMax * kernel ** 2);
        const packed = packPanels({ cin: cinMax, cout: coutMax, taps: kernel ** 2 }, plain);
        const w = place(packed);
        const x = place(draw(random, size ** 2 * cinMax));
        const y = backend.arena.alloc(size ** 2 * coutMax * 4);
        const shape = { n: 1, h: size, width: size, kernel, stride: 1, pad: 1, oh: size, ow: size, cin_max: cinMax };
        const run = (cin: number, cout: number) => backend.call({ op: "conv", x, w, y, cin, cout, ...shape });

        run(cinMax, coutMax); // the scratch of the widest serves all
        const { inUse, peak } = backend.arena;
        const memory = backend.u8.buffer;
        let widths = 0;
        for (let cin = 1; cin <= cinMax; cin++) {
          for (let cout = 1; cout <= coutMax; cout++, widths++) {
            run(cin, cout);
            assert.equal(backend.arena.inUse, inUse, `${cin} to ${cout} channels changed the bytes in use`);
          }
        }
        assert.equal(widths, cinMax * coutMax);
        assert.equal(backend.arena.peak, peak, "the peak moved");
        assert.equal(backend.u8.buffer, memory, "the memory was replaced");
        assertSameBits(backend.f32.slice(w / 4, w / 4 + packed.length), packed, () => "the weight");
      });
    });
  });
}
