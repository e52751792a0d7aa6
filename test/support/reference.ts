/**
 * The oracle of the kernel tests: every record of kernels/dsn.h in float64, as plain loops over plain layouts (activations
 * N, H, W, C; convolution weights O, I, KH, KW; depthwise weights C, KH, KW), and the packing into the kernels' layouts.
 * Nothing here is fast, and nothing is shared with src/.
 */
export type Numbers = ArrayLike<number>;

/** Each output, and the sum of the absolute values of the terms that made it: what its rounding error is proportional to. */
export class Sums {
  readonly value: Float64Array;
  readonly terms: Float64Array;

  constructor(size: number) {
    this.value = new Float64Array(size);
    this.terms = new Float64Array(size);
  }

  add(at: number, term: number): void {
    this.value[at]! += term;
    this.terms[at]! += Math.abs(term);
  }
}

// ---- activations ----

export const ACT = { none: 0, relu: 1, swish: 2, sigmoid: 3 } as const;

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));

export function activate(z: number, act: number): number {
  if (act === ACT.relu) return Math.max(z, 0);
  if (act === ACT.swish) return z * sigmoid(z);
  if (act === ACT.sigmoid) return sigmoid(z);
  return z;
}

export function activateGradient(z: number, act: number): number {
  const s = sigmoid(z);
  if (act === ACT.relu) return z > 0 ? 1 : 0;
  if (act === ACT.swish) return s + z * s * (1 - s);
  if (act === ACT.sigmoid) return s * (1 - s);
  return 1;
}

/** Swish's gradient is a difference, which vanishes near z = -1.28: the sum of its terms' absolute values. */
function activateGradientTerms(z: number, act: number): number {
  const s = sigmoid(z);
  return act === ACT.swish ? s + Math.abs(z) * s * (1 - s) : activateGradient(z, act);
}

// ---- convolution ----

/** Without `depthwise` all inputs reach all outputs; with it channel c reaches channel c (cin = cout). */
export interface ConvShape {
  readonly n: number;
  readonly h: number;
  readonly width: number;
  readonly cin: number;
  readonly cout: number;
  readonly kernel: number;
  readonly stride: number;
  readonly pad: number;
  readonly depthwise: boolean;
}

export const outputSize = (size: number, kernel: number, stride: number, pad: number): number =>
  Math.floor((size + 2 * pad - kernel) / stride) + 1;

export function convSizes(s: ConvShape) {
  const oh = outputSize(s.h, s.kernel, s.stride, s.pad);
  const ow = outputSize(s.width, s.kernel, s.stride, s.pad);
  return {
    oh,
    ow,
    x: s.n * s.h * s.width * s.cin,
    y: s.n * oh * ow * s.cout,
    w: s.cout * (s.depthwise ? 1 : s.cin) * s.kernel ** 2,
  };
}

/** Visits every product of the convolution: y[iy] is the sum of its x[ix] * w[iw]. */
function eachProduct(s: ConvShape, visit: (iy: number, ix: number, iw: number) => void): void {
  const { oh, ow } = convSizes(s);
  for (let image = 0; image < s.n; image++) {
    for (let y = 0; y < oh; y++) {
      for (let x = 0; x < ow; x++) {
        for (let kh = 0; kh < s.kernel; kh++) {
          for (let kw = 0; kw < s.kernel; kw++) {
            const ih = y * s.stride - s.pad + kh;
            const iw = x * s.stride - s.pad + kw;
            if (ih < 0 || ih >= s.h || iw < 0 || iw >= s.width) continue;
            const inputs = ((image * s.h + ih) * s.width + iw) * s.cin;
            const outputs = ((image * oh + y) * ow + x) * s.cout;
            const tap = kh * s.kernel + kw;
            const taps = s.kernel ** 2;
            for (let o = 0; o < s.cout; o++) {
              if (s.depthwise) visit(outputs + o, inputs + o, o * taps + tap);
              else for (let i = 0; i < s.cin; i++) visit(outputs + o, inputs + i, (o * s.cin + i) * taps + tap);
            }
          }
        }
      }
    }
  }
}

export function convolution(s: ConvShape, x: Numbers, w: Numbers): Sums {
  const y = new Sums(convSizes(s).y);
  eachProduct(s, (iy, ix, iw) => y.add(iy, x[ix]! * w[iw]!));
  return y;
}

export function convolutionDx(s: ConvShape, dy: Numbers, w: Numbers): Sums {
  const dx = new Sums(convSizes(s).x);
  eachProduct(s, (iy, ix, iw) => dx.add(ix, dy[iy]! * w[iw]!));
  return dx;
}

export function convolutionDw(s: ConvShape, x: Numbers, dy: Numbers): Sums {
  const dw = new Sums(convSizes(s).w);
  eachProduct(s, (iy, ix, iw) => dw.add(iw, x[ix]! * dy[iy]!));
  return dw;
}

/** What follows a convolution: act(scale[c] * y + shift[c]). The terms grow alike; no activation is steeper than 1.1. */
export function epilogue(y: Sums, c: number, scale: Numbers | null, shift: Numbers | null, act: number): Sums {
  const result = new Sums(y.value.length);
  for (let at = 0; at < y.value.length; at++) {
    const a = scale?.[at % c] ?? 1;
    const b = shift?.[at % c] ?? 0;
    result.value[at] = activate(a * y.value[at]! + b, act);
    result.terms[at] = (Math.abs(a) * y.terms[at]! + Math.abs(b)) * (act === ACT.swish ? 1.1 : 1);
  }
  return result;
}

// ---- weight layouts ----

const PANEL = 16;

/** The full size of a weight, of which a layer at some width uses the (cin, cout) prefix. */
export interface Full {
  readonly cin: number;
  readonly cout: number;
  readonly taps: number;
}

export const panelFloats = (full: Full): number => Math.ceil(full.cout / PANEL) * PANEL * full.taps * full.cin;

/** Where w[o][i][tap] lies in the panels. */
const panelIndex = (full: Full, o: number, i: number, tap: number): number =>
  ((Math.floor(o / PANEL) * full.taps + tap) * full.cin + i) * PANEL + (o % PANEL);

/** Calls `visit(plain, packed)` with both indices of every weight of a (cin, cout) prefix. */
export function eachPacked(
  full: Full,
  cin: number,
  cout: number,
  visit: (plain: number, packed: number) => void,
): void {
  for (let o = 0; o < cout; o++) {
    for (let i = 0; i < cin; i++) {
      for (let tap = 0; tap < full.taps; tap++) visit((o * cin + i) * full.taps + tap, panelIndex(full, o, i, tap));
    }
  }
}

/** O, I, KH, KW -> panels of the same size, zero where the last one is padded. */
export function packPanels(full: Full, plain: Numbers): Float32Array {
  const packed = new Float32Array(panelFloats(full));
  eachPacked(full, full.cin, full.cout, (from, to) => {
    packed[to] = plain[from]!;
  });
  return packed;
}

/** Panels -> the O, I, KH, KW weight of the (cin, cout) prefix. */
export function unpackPanels(full: Full, cin: number, cout: number, packed: Float32Array): Float32Array {
  const plain = new Float32Array(cin * cout * full.taps);
  eachPacked(full, cin, cout, (to, from) => {
    plain[to] = packed[from]!;
  });
  return plain;
}

// ---- bf16 ----

/** The nearest numbers of eight significant bits, of two the even one. */
export function roundBf16(values: Numbers): Float32Array {
  return Float32Array.from(values, (value) => {
    if (value === 0) return value;
    const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 7);
    const below = Math.floor(value / step);
    const over = value / step - below;
    return (over > 0.5 || (over === 0.5 && below % 2 !== 0) ? below + 1 : below) * step;
  });
}

const upperHalf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16;

/** Rows of c numbers in bf16 -> rows of pairs, the first in the lower half of its word, an odd last one with zero. */
export function pairRows(values: Float32Array, c: number): Int32Array {
  const words = Math.ceil(c / 2);
  const paired = new Int32Array((values.length / c) * words);
  values.forEach((value, at) => {
    const ch = at % c;
    paired[Math.floor(at / c) * words + (ch >> 1)]! |= upperHalf(value) << (16 * (ch % 2));
  });
  return paired;
}

const pairsOf = (full: Full): Full => ({ ...full, cin: Math.ceil(full.cin / 2) });

/** As `packPanels`, of words for pairs of inputs. */
export function packPairs(full: Full, plain: Numbers): Int32Array {
  const packed = new Int32Array(panelFloats(pairsOf(full)));
  for (let o = 0; o < full.cout; o++) {
    for (let i = 0; i < full.cin; i++) {
      for (let tap = 0; tap < full.taps; tap++) {
        const half = upperHalf(plain[(o * full.cin + i) * full.taps + tap]!);
        packed[panelIndex(pairsOf(full), o, i >> 1, tap)]! |= half << (16 * (i % 2));
      }
    }
  }
  return packed;
}

/** As `unpackPanels`. */
export function unpackPairs(full: Full, cin: number, cout: number, packed: Int32Array): Float32Array {
  const plain = new Float32Array(cin * cout * full.taps);
  for (let o = 0; o < cout; o++) {
    for (let i = 0; i < cin; i++) {
      for (let tap = 0; tap < full.taps; tap++) {
        const half = packed[panelIndex(pairsOf(full), o, i >> 1, tap)]! >>> (16 * (i % 2));
        plain[(o * cin + i) * full.taps + tap] = new Float32Array(Uint32Array.of(half << 16).buffer)[0]!;
      }
    }
  }
  return plain;
}

/** The panels with inputs and outputs exchanged, which the gradient of the input reads. */
export function transposePanels(full: Full, packed: Float32Array): Float32Array {
  const swapped = { cin: full.cout, cout: full.cin, taps: full.taps };
  const result = new Float32Array(panelFloats(swapped));
  for (let o = 0; o < full.cout; o++) {
    for (let i = 0; i < full.cin; i++) {
      for (let tap = 0; tap < full.taps; tap++) {
        result[panelIndex(swapped, i, o, tap)] = packed[panelIndex(full, o, i, tap)]!;
      }
    }
  }
  return result;
}

/** Depthwise: calls `visit` with the indices of w[c][tap] in C, KH, KW and in the packed KH, KW, Cmax. */
export function eachDepthwise(
  taps: number,
  cMax: number,
  c: number,
  visit: (plain: number, packed: number) => void,
): void {
  for (let ch = 0; ch < c; ch++) for (let tap = 0; tap < taps; tap++) visit(ch * taps + tap, tap * cMax + ch);
}

/** KH, KW, Cmax -> C, KH, KW of the first `c` channels. */
export function unpackDepthwise(taps: number, cMax: number, c: number, packed: Float32Array): Float32Array {
  const plain = new Float32Array(c * taps);
  eachDepthwise(taps, cMax, c, (to, from) => {
    plain[to] = packed[from]!;
  });
  return plain;
}

// ---- norms ----

/** `setOf` says which statistics an element shares: its channel (batch norm), its image and group (group norm). */
export interface NormShape {
  readonly rows: number;
  readonly c: number;
  readonly sets: number;
  readonly setOf: (row: number, ch: number) => number;
}

export const batchNormShape = (rows: number, c: number): NormShape => ({ rows, c, sets: c, setOf: (_, ch) => ch });

export function groupNormShape(n: number, hw: number, c: number, group: number): NormShape {
  const groups = Math.ceil(c / group);
  const setOf = (row: number, ch: number) => Math.floor(row / hw) * groups + Math.floor(ch / group);
  return { rows: n * hw, c, sets: n * groups, setOf };
}

/** Mean over each set of the values `of(row, ch)`. */
function setMeans(s: NormShape, of: (row: number, ch: number) => number): Float64Array {
  const sum = new Float64Array(s.sets);
  const count = new Float64Array(s.sets);
  for (let row = 0; row < s.rows; row++) {
    for (let ch = 0; ch < s.c; ch++) {
      const set = s.setOf(row, ch);
      sum[set]! += of(row, ch);
      count[set]! += 1;
    }
  }
  return sum.map((total, set) => total / count[set]!);
}

/**
 * y = act(gamma * (x - mean) * inv + beta) with the sets' own statistics; `variance` is biased. `subtracted`: how large x and
 * mean are in the units of y.
 */
export function norm(
  s: NormShape,
  x: Numbers,
  gamma: Numbers | null,
  beta: Numbers | null,
  eps: number,
  act: number,
): Record<"y" | "mean" | "variance" | "inv" | "subtracted", Float64Array> {
  const mean = setMeans(s, (row, ch) => x[row * s.c + ch]!);
  const variance = setMeans(s, (row, ch) => (x[row * s.c + ch]! - mean[s.setOf(row, ch)]!) ** 2);
  const inv = variance.map((v) => 1 / Math.sqrt(v + eps));
  const y = new Float64Array(s.rows * s.c);
  const subtracted = new Float64Array(y.length);
  for (let at = 0; at < y.length; at++) {
    const ch = at % s.c;
    const set = s.setOf(Math.floor(at / s.c), ch);
    const factor = (gamma?.[ch] ?? 1) * inv[set]!;
    y[at] = activate(factor * (x[at]! - mean[set]!) + (beta?.[ch] ?? 0), act);
    subtracted[at] = Math.abs(factor) * (Math.abs(x[at]!) + Math.abs(mean[set]!));
  }
  return { y, mean, variance, inv, subtracted };
}

/** `mean` and `inv` are the sets', from the forward pass. */
export function normDx(
  s: NormShape,
  x: Numbers,
  dy: Numbers,
  gamma: Numbers | null,
  beta: Numbers | null,
  mean: Numbers,
  inv: Numbers,
  act: number,
): { dx: Sums; dgamma: Sums; dbeta: Sums } {
  const hat = new Float64Array(s.rows * s.c);
  const g = new Float64Array(s.rows * s.c); // gradient before gamma
  const dgamma = new Sums(s.c);
  const dbeta = new Sums(s.c);
  for (let at = 0; at < hat.length; at++) {
    const ch = at % s.c;
    const set = s.setOf(Math.floor(at / s.c), ch);
    hat[at] = (x[at]! - mean[set]!) * inv[set]!;
    g[at] = dy[at]! * activateGradient((gamma?.[ch] ?? 1) * hat[at]! + (beta?.[ch] ?? 0), act);
    dgamma.add(ch, g[at]! * hat[at]!);
    dbeta.add(ch, g[at]!);
  }
  const scaled = g.map((value, at) => value * (gamma?.[at % s.c] ?? 1));
  const m1 = setMeans(s, (row, ch) => scaled[row * s.c + ch]!);
  const m2 = setMeans(s, (row, ch) => scaled[row * s.c + ch]! * hat[row * s.c + ch]!);
  const dx = new Sums(hat.length);
  for (let at = 0; at < hat.length; at++) {
    const set = s.setOf(Math.floor(at / s.c), at % s.c);
    for (const term of [scaled[at]!, -m1[set]!, -hat[at]! * m2[set]!]) dx.add(at, inv[set]! * term);
  }
  return { dx, dgamma, dbeta };
}

// ---- affine ----

export interface AffineShape {
  readonly n: number;
  readonly hw: number;
  readonly c: number;
  readonly perImage: boolean;
}

const factorIndex = (s: AffineShape, at: number) => (s.perImage ? Math.floor(at / (s.hw * s.c)) * s.c : 0) + (at % s.c);

export function affine(s: AffineShape, x: Numbers, scale: Numbers | null, shift: Numbers | null, act: number): Sums {
  const y = new Sums(s.n * s.hw * s.c);
  for (let at = 0; at < y.value.length; at++) {
    const a = scale?.[factorIndex(s, at)] ?? 1;
    const b = shift?.[factorIndex(s, at)] ?? 0;
    y.value[at] = activate(a * x[at]! + b, act);
    y.terms[at] = Math.abs(a * x[at]!) + Math.abs(b);
  }
  return y;
}

export function affineDx(
  s: AffineShape,
  x: Numbers,
  dy: Numbers,
  scale: Numbers | null,
  shift: Numbers | null,
  act: number,
): { dx: Sums; dscale: Sums; dshift: Sums } {
  const factors = (s.perImage ? s.n : 1) * s.c;
  const dx = new Sums(s.n * s.hw * s.c);
  const dscale = new Sums(factors);
  const dshift = new Sums(factors);
  for (let at = 0; at < dx.value.length; at++) {
    const factor = factorIndex(s, at);
    const a = scale?.[factor] ?? 1;
    const z = a * x[at]! + (shift?.[factor] ?? 0);
    const g = dy[at]! * activateGradient(z, act);
    dx.value[at] = g * a;
    dx.terms[at] = Math.abs(dy[at]! * a) * activateGradientTerms(z, act);
    dscale.add(factor, g * x[at]!);
    dshift.add(factor, g);
  }
  return { dx, dscale, dshift };
}

// ---- pools ----

/** Kernel 0: the whole image. */
export interface PoolShape {
  readonly n: number;
  readonly h: number;
  readonly width: number;
  readonly c: number;
  readonly kernel: number;
  readonly stride: number;
  readonly pad: number;
  readonly oh: number;
  readonly ow: number;
  readonly kind: "average" | "maximum";
}

/** Visits every output with the inputs of its window that are inside the image, in row order. */
function eachWindow(s: PoolShape, visit: (iy: number, window: number[]) => void): void {
  for (let iy = 0; iy < s.n * s.oh * s.ow * s.c; iy++) {
    const ch = iy % s.c;
    const ow = Math.floor(iy / s.c) % s.ow;
    const oh = Math.floor(iy / (s.c * s.ow)) % s.oh;
    const image = Math.floor(iy / (s.c * s.ow * s.oh));
    const window: number[] = [];
    for (let ih = 0; ih < s.h; ih++) {
      for (let iw = 0; iw < s.width; iw++) {
        const kh = ih - oh * s.stride + s.pad;
        const kw = iw - ow * s.stride + s.pad;
        const inside = s.kernel === 0 || (kh >= 0 && kh < s.kernel && kw >= 0 && kw < s.kernel);
        if (inside) window.push(((image * s.h + ih) * s.width + iw) * s.c + ch);
      }
    }
    visit(iy, window);
  }
}

const largest = (x: Numbers, window: number[]) => window.reduce((best, at) => (x[at]! > x[best]! ? at : best));

export function pool(s: PoolShape, x: Numbers): Sums {
  const y = new Sums(s.n * s.oh * s.ow * s.c);
  eachWindow(s, (iy, window) => {
    if (s.kind === "maximum") y.add(iy, x[largest(x, window)]!);
    else for (const ix of window) y.add(iy, x[ix]! / window.length);
  });
  return y;
}

export function poolDx(s: PoolShape, x: Numbers, dy: Numbers): Sums {
  const dx = new Sums(s.n * s.h * s.width * s.c);
  eachWindow(s, (iy, window) => {
    if (s.kind === "maximum") dx.add(largest(x, window), dy[iy]!);
    else for (const ix of window) dx.add(ix, dy[iy]! / window.length);
  });
  return dx;
}

// ---- sums and copies ----

/** act(a + b) where both reach, the wider one's value beyond. */
export function add(rows: number, a: Numbers, ca: number, b: Numbers, cb: number, act: number): Sums {
  const c = Math.max(ca, cb);
  const y = new Sums(rows * c);
  for (let at = 0; at < rows * c; at++) {
    const row = Math.floor(at / c);
    const ch = at % c;
    const left = ch < ca ? a[row * ca + ch]! : 0;
    const right = ch < cb ? b[row * cb + ch]! : 0;
    y.value[at] = activate(left + right, act);
    y.terms[at] = Math.abs(left) + Math.abs(right);
  }
  return y;
}

export function addDx(rows: number, a: Numbers, ca: number, b: Numbers, cb: number, dy: Numbers, act: number) {
  const c = Math.max(ca, cb);
  const [da, db] = [new Sums(rows * ca), new Sums(rows * cb)];
  for (let at = 0; at < rows * c; at++) {
    const row = Math.floor(at / c);
    const ch = at % c;
    const z = (ch < ca ? a[row * ca + ch]! : 0) + (ch < cb ? b[row * cb + ch]! : 0);
    for (const [d, width] of [[da, ca] as const, [db, cb] as const]) {
      if (ch >= width) continue;
      d.value[row * width + ch] = dy[at]! * activateGradient(z, act);
      d.terms[row * width + ch] = Math.abs(dy[at]!) * activateGradientTerms(z, act);
    }
  }
  return { da, db };
}

export function columnSum(rows: number, x: Numbers, c: number): Sums {
  const y = new Sums(c);
  for (let at = 0; at < rows * c; at++) y.add(at % c, x[at]!);
  return y;
}

// ---- losses ----

export function softmax(n: number, x: Numbers, c: number): Float64Array {
  const y = new Float64Array(n * c);
  for (let row = 0; row < n; row++) {
    const logits = Array.from({ length: c }, (_, i) => x[row * c + i]!);
    const top = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - top));
    const sum = powers.reduce((total, power) => total + power);
    y.set(
      powers.map((power) => power / sum),
      row * c,
    );
  }
  return y;
}

/** One row of c probabilities for each label. */
export function smoothLabels(labels: Numbers, c: number, smoothing: number): Float64Array {
  return new Float64Array(labels.length * c).map(
    (_, at) => smoothing / c + (at % c === labels[Math.floor(at / c)]! ? 1 - smoothing : 0),
  );
}

/** Each row's loss, and the gradient of the rows' sum. A row of `target` need not sum to 1. */
export function crossEntropy(n: number, x: Numbers, c: number, target: Numbers): { loss: Sums; dx: Float64Array } {
  const p = softmax(n, x, c);
  const loss = new Sums(n);
  const total = new Float64Array(n);
  for (let at = 0; at < n * c; at++) {
    const row = Math.floor(at / c);
    loss.add(row, -target[at]! * Math.log(p[at]!));
    total[row]! += target[at]!;
  }
  return { loss, dx: p.map((probability, at) => total[Math.floor(at / c)]! * probability - target[at]!) };
}

// ---- parameters ----

export function sgd(
  p: Numbers,
  g: Numbers,
  m: Numbers,
  { lr, momentum, decay, nesterov }: { lr: number; momentum: number; decay: number; nesterov: number },
): { p: Sums; m: Sums } {
  const next = { p: new Sums(p.length), m: new Sums(p.length) };
  for (let at = 0; at < p.length; at++) {
    const gradient = g[at]! + decay * p[at]!;
    next.m.value[at] = momentum * m[at]! + gradient;
    next.m.terms[at] = Math.abs(momentum * m[at]!) + Math.abs(g[at]!) + Math.abs(decay * p[at]!);
    next.p.value[at] = p[at]! - lr * (nesterov ? gradient + momentum * next.m.value[at]! : next.m.value[at]!);
    next.p.terms[at] = Math.abs(p[at]!) + 2 * lr * next.m.terms[at]!;
  }
  return next;
}
