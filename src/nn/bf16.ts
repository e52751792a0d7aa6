/**
 * Convolution weights in bf16, the upper half of a float: two neighbouring inputs share a 32-bit word, the even one in its lower
 * half, an odd last one with 0. Published layout (O, I, kh, kw) ⇄ panels of words, as kernels/dsn.h wants them.
 */
import { PANEL } from "../backend/records.js";

type Shape = readonly number[];

/** Words of a weight, the last panel's padding included. */
export function pairedWords([o, i, kh, kw]: Shape): number {
  return Math.ceil(o! / PANEL) * PANEL * Math.ceil(i! / 2) * kh! * kw!;
}

/** Rounds to nearest even. */
export function packPairs(shape: Shape, values: ArrayLike<number>, words: Float32Array): void {
  const to = new Uint32Array(words.buffer, words.byteOffset, words.length).fill(0);
  eachPair(shape, (word, even, odd) => {
    to[word] = rounded(values[even]!) | (odd < 0 ? 0 : rounded(values[odd]!) << 16);
  });
}

/** What `packPairs` kept of the values. */
export function unpackPairs(shape: Shape, words: Float32Array, values: Float32Array): void {
  const from = new Uint32Array(words.buffer, words.byteOffset, words.length);
  const to = new Uint32Array(values.buffer, values.byteOffset, values.length);
  eachPair(shape, (word, even, odd) => {
    to[even] = from[word]! << 16;
    if (odd >= 0) to[odd] = from[word]! & 0xffff0000;
  });
}

/** Visits every word with the published indices of its two weights, the second -1 where there is none. */
function eachPair([o, i, kh, kw]: Shape, visit: (word: number, even: number, odd: number) => void): void {
  const taps = kh! * kw!;
  let word = 0;
  for (let first = 0; first < o!; first += PANEL) {
    for (let tap = 0; tap < taps; tap++) {
      for (let input = 0; input < i!; input += 2, word += PANEL) {
        for (let lane = 0; lane < Math.min(PANEL, o! - first); lane++) {
          const even = ((first + lane) * i! + input) * taps + tap;
          visit(word + lane, even, input + 1 < i! ? even + taps : -1);
        }
      }
    }
  }
}

const float = new Float32Array(1);
const bitsOfFloat = new Uint32Array(float.buffer);

/** The nearest bf16's bits. */
function rounded(value: number): number {
  float[0] = value;
  const bits = bitsOfFloat[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
