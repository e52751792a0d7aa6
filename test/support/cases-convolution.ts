/** Cases of dense and depthwise convolution, forward and both gradients, at prefixes of a full-size weight. */
import type { Philox } from "../../src/random/philox.js";
import {
  between,
  type Case,
  close,
  closeAdded,
  type Data,
  draw,
  drawFactors,
  type Expected,
  exact,
  makeCase,
  randomOf,
} from "./case.js";
import {
  ACT,
  type ConvShape,
  convolution,
  convolutionDw,
  convolutionDx,
  convSizes,
  eachDepthwise,
  eachPacked,
  epilogue,
  type Full,
  outputSize,
  packPairs,
  packPanels,
  pairRows,
  panelFloats,
  roundBf16,
  Sums,
  transposePanels,
  unpackDepthwise,
  unpackPanels,
} from "./reference.js";

/** A convolution at some width, and the size of the weight it is a prefix of. */
type Layer = ConvShape & { readonly cinMax: number; readonly coutMax: number };

interface Epilogue {
  readonly scale: boolean;
  readonly shift: boolean;
  readonly act: number;
}

const plain: Epilogue = { scale: false, shift: false, act: ACT.none };
const fused: Epilogue = { scale: true, shift: true, act: ACT.swish };

const fullOf = (l: Layer) => ({ cin: l.cinMax, cout: l.coutMax, taps: l.kernel ** 2 });

function shapeWords(l: Layer): Record<string, number> {
  const { n, h, width, cin, cout, kernel, stride, pad } = l;
  const { oh, ow } = convSizes(l);
  const shape = { kernel, stride, pad, oh, ow };
  return l.depthwise ? { n, h, width, c: cout, ...shape } : { n, h, width, cin, cout, ...shape };
}

/** A gradient in its packed place, the rest untouched. */
function placed(
  before: Float32Array,
  sums: Sums,
  each: (visit: (plain: number, packed: number) => void) => void,
): Expected {
  const value = new Float64Array(before.length).fill(Number.NaN);
  const tolerance = new Float64Array(before.length);
  const plainBefore = new Float32Array(sums.value.length);
  each((from, to) => {
    plainBefore[from] = before[to]!;
  });
  const sum = closeAdded(sums, plainBefore);
  each((from, to) => {
    value[to] = sum.value[from]!;
    tolerance[to] = sum.tolerance[from]!;
  });
  return { value, tolerance };
}

// ---- dense ----

/** What a convolution reads: numbers as they are, or rounded and in pairs. */
interface Storage {
  readonly op: "conv" | "conv_bf16";
  round(values: Float32Array): Float32Array;
  rows(values: Float32Array, c: number): Data;
  pack(full: Full, plain: Float32Array): Data;
}

const floats: Storage = { op: "conv", round: (values) => values, rows: (values) => values, pack: packPanels };
const pairs: Storage = { op: "conv_bf16", round: roundBf16, rows: pairRows, pack: packPairs };

function convCase(random: Philox, l: Layer, e: Epilogue, { op, round, rows, pack }: Storage): Case {
  const full = fullOf(l);
  const sizes = convSizes(l);
  const x = round(draw(random, sizes.x));
  const w = round(draw(random, l.cinMax * l.coutMax * full.taps));
  const scale = e.scale ? drawFactors(random, l.cout) : null;
  const shift = e.shift ? draw(random, l.cout) : null;
  const words = { ...shapeWords(l), cin_max: l.cinMax, act: e.act };
  const inputs = { x: rows(x, l.cin), w: pack(full, w), scale, shift };
  return makeCase(op, words, inputs, { y: { size: sizes.y } }, () => {
    const sums = convolution(l, x, unpackPanels(full, l.cin, l.cout, packPanels(full, w)));
    return { y: close(epilogue(sums, l.cout, scale, shift, e.act)) };
  });
}

function convDxCase(random: Philox, l: Layer, accumulate: boolean): Case {
  const full = fullOf(l);
  const sizes = convSizes(l);
  const dy = draw(random, sizes.y);
  const w = packPanels(full, draw(random, l.cinMax * l.coutMax * full.taps));
  const words = { ...shapeWords(l), cout_max: l.coutMax, accumulate: accumulate ? 1 : 0 };
  const dx = { size: sizes.x, ...(accumulate && { before: draw(random, sizes.x) }) };
  return makeCase("conv_dx", words, { dy, wt: transposePanels(full, w) }, { dx }, () => {
    const sums = convolutionDx(l, dy, unpackPanels(full, l.cin, l.cout, w));
    return { dx: dx.before ? closeAdded(sums, dx.before) : close(sums) };
  });
}

function convDwCase(random: Philox, l: Layer): Case {
  const full = fullOf(l);
  const sizes = convSizes(l);
  const x = draw(random, sizes.x);
  const dy = draw(random, sizes.y);
  const before = draw(random, panelFloats(full));
  const words = { ...shapeWords(l), cin_max: l.cinMax };
  return makeCase("conv_dw", words, { x, dy }, { dw: { size: before.length, before } }, () => ({
    dw: placed(before, convolutionDw(l, x, dy), (visit) => eachPacked(full, l.cin, l.cout, visit)),
  }));
}

/** Every (cin, cout) prefix of one small weight; the number of pixels changes along. */
function* everyWidth(cinMax: number, coutMax: number, kernel: number): Generator<Layer> {
  for (let cin = 1; cin <= cinMax; cin++) {
    for (let cout = 1; cout <= coutMax; cout++) {
      const pixels =
        kernel === 1 ? { h: 1, width: 1 + ((cin * 7 + cout) % 13) } : { h: 3, width: 1 + ((cin + cout) % 3) };
      yield {
        n: 1,
        ...pixels,
        cin,
        cout,
        kernel,
        stride: 1,
        pad: (kernel - 1) >> 1,
        cinMax,
        coutMax,
        depthwise: false,
      };
    }
  }
}

/** Kernels, strides, paddings, odd sizes, 1-pixel images, batches, at random widths. */
function* everyGeometry(times: number): Generator<Layer> {
  for (let time = 0; time < times; time++) {
    for (const kernel of [1, 2, 3, 5, 7]) {
      for (const stride of [1, 2]) {
        for (const pad of new Set([0, kernel >> 1, (stride + kernel - 2) >> 1])) {
          const random = randomOf("geometry", time, kernel, stride, pad);
          const smallest = Math.max(1, kernel - 2 * pad);
          const cinMax = between(random, 1, 20);
          const coutMax = between(random, 1, 40);
          yield {
            n: between(random, 1, 3),
            h: between(random, smallest, smallest + (time % 3) * 3),
            width: between(random, smallest, smallest + (time % 3) * 3),
            cin: between(random, 1, cinMax),
            cout: between(random, 1, coutMax),
            kernel,
            stride,
            pad,
            cinMax,
            coutMax,
            depthwise: false,
          };
        }
      }
    }
  }
}

/** Enough rows for large blocks of rows (forward) and several chunks of them (gradient of the weight). */
const manyRows: Layer[] = [
  { n: 2, h: 16, width: 15, cin: 5, cout: 21, kernel: 1, stride: 1, pad: 0, cinMax: 7, coutMax: 40, depthwise: false },
  { n: 2, h: 16, width: 15, cin: 5, cout: 19, kernel: 3, stride: 1, pad: 1, cinMax: 5, coutMax: 24, depthwise: false },
  {
    n: 4,
    h: 16,
    width: 17,
    cin: 13,
    cout: 19,
    kernel: 1,
    stride: 1,
    pad: 0,
    cinMax: 14,
    coutMax: 40,
    depthwise: false,
  },
  { n: 8, h: 31, width: 33, cin: 3, cout: 5, kernel: 1, stride: 2, pad: 0, cinMax: 4, coutMax: 24, depthwise: false },
  { n: 3, h: 22, width: 25, cin: 3, cout: 9, kernel: 3, stride: 1, pad: 1, cinMax: 3, coutMax: 17, depthwise: false },
  { n: 3, h: 23, width: 26, cin: 5, cout: 7, kernel: 3, stride: 2, pad: 1, cinMax: 5, coutMax: 9, depthwise: false },
  { n: 2, h: 24, width: 25, cin: 3, cout: 6, kernel: 5, stride: 2, pad: 2, cinMax: 4, coutMax: 6, depthwise: false },
];

/** Gradients of the input whose phases are as narrow as their source, lie inside it, or have no tap. */
const phases: Layer[] = [
  { n: 2, h: 4, width: 1, cin: 3, cout: 5, kernel: 1, stride: 2, pad: 0, cinMax: 4, coutMax: 6, depthwise: false },
  { n: 2, h: 4, width: 1, cin: 3, cout: 5, kernel: 3, stride: 2, pad: 1, cinMax: 4, coutMax: 6, depthwise: false },
  { n: 2, h: 3, width: 1, cin: 3, cout: 5, kernel: 3, stride: 3, pad: 1, cinMax: 3, coutMax: 6, depthwise: false },
  { n: 2, h: 3, width: 3, cin: 3, cout: 5, kernel: 3, stride: 3, pad: 1, cinMax: 3, coutMax: 6, depthwise: false },
  { n: 1, h: 7, width: 8, cin: 3, cout: 5, kernel: 2, stride: 3, pad: 1, cinMax: 3, coutMax: 6, depthwise: false },
];

/** More than one group of columns. */
const wide: Layer[] = [
  { n: 1, h: 5, width: 1, cin: 3, cout: 131, kernel: 1, stride: 1, pad: 0, cinMax: 4, coutMax: 150, depthwise: false },
  { n: 1, h: 5, width: 3, cin: 135, cout: 7, kernel: 1, stride: 1, pad: 0, cinMax: 300, coutMax: 18, depthwise: false },
  { n: 2, h: 3, width: 3, cin: 4, cout: 257, kernel: 3, stride: 1, pad: 1, cinMax: 4, coutMax: 270, depthwise: false },
  { n: 2, h: 5, width: 4, cin: 140, cout: 5, kernel: 3, stride: 2, pad: 1, cinMax: 140, coutMax: 7, depthwise: false },
  {
    n: 1,
    h: 20,
    width: 20,
    cin: 2,
    cout: 144,
    kernel: 1,
    stride: 1,
    pad: 0,
    cinMax: 4,
    coutMax: 150,
    depthwise: false,
  },
  {
    n: 4,
    h: 16,
    width: 17,
    cin: 2,
    cout: 133,
    kernel: 1,
    stride: 1,
    pad: 0,
    cinMax: 3,
    coutMax: 144,
    depthwise: false,
  },
  { n: 64, h: 1, width: 1, cin: 40, cout: 10, kernel: 1, stride: 1, pad: 0, cinMax: 64, coutMax: 10, depthwise: false },
];

const geometries = (times: number): Layer[] => [...everyGeometry(times), ...manyRows, ...wide, ...phases];

const someEpilogue = (random: Philox): Epilogue => ({
  scale: random.int(2) === 0,
  shift: random.int(2) === 0,
  act: random.int(4),
});

function forwardCases(storage: Storage): Case[] {
  const cases: Case[] = [];
  const add = (l: Layer, epilogue: Epilogue | null) => {
    const random = randomOf("conv", cases.length);
    cases.push(convCase(random, l, epilogue ?? someEpilogue(random), storage));
  };
  for (const l of everyWidth(21, 37, 1)) add(l, plain);
  for (const l of everyWidth(6, 18, 3)) add(l, fused);
  for (const l of geometries(12)) add(l, null);
  for (const l of [...manyRows, ...wide]) add(l, fused);
  return cases;
}

export const convCases = (): Case[] => forwardCases(floats);
export const convBf16Cases = (): Case[] => forwardCases(pairs);

/** Rows of every width, and enough of them for several blocks. */
export function toBf16Cases(): Case[] {
  const cases: Case[] = [];
  for (const [n, hw] of [
    [1, 1],
    [3, 5],
    [2, 700],
  ] as const) {
    for (const c of hw > 5 ? [1, 31, 64] : [...Array(40).keys(), 127, 128, 129].slice(1)) {
      for (const scaled of [false, true]) {
        const random = randomOf("to_bf16", cases.length);
        const x = draw(random, n * hw * c);
        const scale = scaled ? drawFactors(random, n * c) : null;
        const product = x.map((v, at) => v * (scale?.[Math.floor(at / (hw * c)) * c + (at % c)] ?? 1));
        const paired = pairRows(roundBf16(product), c);
        const y = { size: paired.length, integer: true };
        const expected = () => ({ y: exact(Float64Array.from(paired)) });
        cases.push(makeCase("to_bf16", { n, hw, c }, { x, scale }, { y }, expected));
      }
    }
  }
  return cases;
}

export function convDxCases(): Case[] {
  const cases: Case[] = [];
  for (const l of [...everyWidth(37, 21, 1), ...everyWidth(18, 6, 3), ...geometries(6)]) {
    cases.push(convDxCase(randomOf("conv_dx", cases.length), l, cases.length % 3 === 0));
  }
  return cases;
}

export function convDwCases(): Case[] {
  const cases: Case[] = [];
  for (const l of [...everyWidth(19, 35, 1), ...everyWidth(6, 18, 3), ...geometries(6)]) {
    cases.push(convDwCase(randomOf("conv_dw", cases.length), l));
  }
  return cases;
}

export function transposeCases(): Case[] {
  const cases: Case[] = [];
  for (const taps of [1, 4, 9]) {
    for (const cin of [1, 3, 15, 16, 17, 40]) {
      for (const cout of [1, 5, 16, 33]) {
        const w = packPanels({ cin, cout, taps }, draw(randomOf("transpose", cases.length), cin * cout * taps));
        const wt = transposePanels({ cin, cout, taps }, w);
        const words = { taps, cin_max: cin, cout_max: cout };
        const expected = () => ({ wt: exact(Float64Array.from(wt)) });
        cases.push(makeCase("transpose", words, { w }, { wt: { size: wt.length } }, expected));
      }
    }
  }
  return cases;
}

// ---- depthwise ----

function depthwiseCase(random: Philox, l: Layer, e: Epilogue, withMeans: boolean): Case {
  const taps = l.kernel ** 2;
  const sizes = convSizes(l);
  const x = draw(random, sizes.x);
  const w = draw(random, taps * l.coutMax);
  const scale = e.scale ? drawFactors(random, l.cout) : null;
  const shift = e.shift ? draw(random, l.cout) : null;
  const words = { ...shapeWords(l), cmax: l.coutMax, act: e.act };
  const outputs = { y: { size: sizes.y }, means: withMeans ? { size: l.n * bandsOf(l) * l.cout } : null };
  return makeCase("depthwise", words, { x, w, scale, shift }, outputs, () => {
    const sums = convolution(l, x, unpackDepthwise(taps, l.coutMax, l.cout, w));
    const y = epilogue(sums, l.cout, scale, shift, e.act);
    return { y: close(y), means: close(bandMeans(l, y)) };
  });
}

const BAND = 7;
const bandsOf = (l: Layer): number => Math.ceil(convSizes(l).oh / BAND);

/** Of bands of rows; their mean is that of all pixels. */
function bandMeans(l: Layer, y: Sums): Sums {
  const { oh, ow } = convSizes(l);
  const [c, bands] = [l.cout, bandsOf(l)];
  const means = new Sums(l.n * bands * c);
  const share = bands / (oh * ow);
  for (let at = 0; at < y.value.length; at++) {
    const row = Math.floor(at / (ow * c));
    const to = (Math.floor(row / oh) * bands + Math.floor((row % oh) / BAND)) * c + (at % c);
    means.value[to]! += y.value[at]! * share;
    means.terms[to]! += y.terms[at]! * share;
  }
  return means;
}

function depthwiseDxCase(random: Philox, l: Layer, accumulate: boolean): Case {
  const taps = l.kernel ** 2;
  const sizes = convSizes(l);
  const dy = draw(random, sizes.y);
  const w = draw(random, taps * l.coutMax);
  const words = { ...shapeWords(l), cmax: l.coutMax, accumulate: accumulate ? 1 : 0 };
  const dx = { size: sizes.x, ...(accumulate && { before: draw(random, sizes.x) }) };
  return makeCase("depthwise_dx", words, { dy, w }, { dx }, () => {
    const sums = convolutionDx(l, dy, unpackDepthwise(taps, l.coutMax, l.cout, w));
    return { dx: dx.before ? closeAdded(sums, dx.before) : close(sums) };
  });
}

function depthwiseDwCase(random: Philox, l: Layer): Case {
  const taps = l.kernel ** 2;
  const sizes = convSizes(l);
  const x = draw(random, sizes.x);
  const dy = draw(random, sizes.y);
  const before = draw(random, taps * l.coutMax);
  const words = { ...shapeWords(l), cmax: l.coutMax };
  return makeCase("depthwise_dw", words, { x, dy }, { dw: { size: before.length, before } }, () => ({
    dw: placed(before, convolutionDw(l, x, dy), (visit) => eachDepthwise(taps, l.coutMax, l.cout, visit)),
  }));
}

function depthwiseLayers(): Layer[] {
  const layers: Layer[] = [];
  const layer = (
    n: number,
    h: number,
    width: number,
    c: number,
    kernel: number,
    stride: number,
    pad: number,
    cMax: number,
  ) => {
    if (outputSize(h, kernel, stride, pad) < 1 || outputSize(width, kernel, stride, pad) < 1) return;
    layers.push({ n, h, width, cin: c, cout: c, kernel, stride, pad, cinMax: cMax, coutMax: cMax, depthwise: true });
  };
  for (const kernel of [1, 3, 5]) {
    for (const stride of [1, 2]) {
      const pad = kernel >> 1;
      for (let c = 1; c <= 37; c++) layer(1 + (c % 2), 1 + (c % 5), 1 + ((c * 3) % 7), c, kernel, stride, pad, 37);
      for (const size of [1, 2, 3, 6, 7, 11]) layer(1, size, 12 - size, 5, kernel, stride, 0, 9);
      layer(1, 3, 16, 40, kernel, stride, pad, 48); // strips of pixels that overlap, of full vectors
      layer(1, 1, 1, 3, kernel, stride, pad, 3);
      layer(3, 34, 7, 20, kernel, stride, pad, 24); // several chunks in the gradient of the weight
      layer(20, 28, 2, 3, kernel, stride, pad, 4); // and as many as there may be
      for (const n of [1, 2]) layer(n, 16, 5, 150, kernel, stride, pad, 160); // several groups of channels, with means and without
    }
  }
  return layers;
}

export function depthwiseCases(): Case[] {
  return depthwiseLayers().map((l, index) => {
    const random = randomOf("depthwise", index);
    return depthwiseCase(random, l, someEpilogue(random), index % 2 === 0);
  });
}

export const depthwiseDxCases = (): Case[] =>
  depthwiseLayers().flatMap((l, index) =>
    [false, true].map((accumulate) => depthwiseDxCase(randomOf("depthwise_dx", index), l, accumulate)),
  );

export const depthwiseDwCases = (): Case[] =>
  depthwiseLayers().map((l, index) => depthwiseDwCase(randomOf("depthwise_dw", index), l));
