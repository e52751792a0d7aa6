/**
 * Philox4x32-10, a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * A stream is named, not carried along: `new Philox(seed, epoch, sample, "augment")` gives the same numbers in any
 * worker, in any order, before and after a resume.
 */
import { UsageError } from "../errors.js";

/** What word 1 of a counter is for, in its top bits; block index or number part below. Keeps the three uses apart. */
const STREAM = 0x40000000;
const TEXT = 0x80000000;

const TWO_32 = 2 ** 32;
const block = new Uint32Array(4);

/** High 32 bits of the product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  return (aHigh * bHigh + (middle >>> 16) + ((aLow * bHigh + (middle & 0xffff)) >>> 16)) | 0;
}

/** The bijection itself: ten rounds on one counter under one key. Writes four words to `out`. */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * One stream of random numbers, named by a seed and a tuple of key parts (non-negative safe integers or strings).
 *
 * The name becomes a 128-bit state by chaining: the state starts as (seed, 0), and each part, as a 64-bit block of its
 * type and value (strings: 4 bytes of UTF-8 a block, with their length), is encrypted under it:
 * `state = philox(key: state[0..1], counter: [value, tag | value, state[2..3]])`. Block i of the stream is
 * `philox(key: state[0..1], counter: [i, STREAM, state[2..3]])`. Parts are encoded unambiguously, so that two different
 * tuples share a stream only if two 128-bit states collide by chance.
 */
export class Philox {
  private readonly state = new Uint32Array(4);
  private readonly buffer = new Uint32Array(4);
  private counter = 0;
  /** Words of `buffer` not yet given out. */
  private left = 0;
  private spareNormal = Number.NaN;

  constructor(seed: number, ...key: (number | string)[]) {
    assertKeyInteger(seed);
    this.state[0] = seed % TWO_32;
    this.state[1] = Math.floor(seed / TWO_32);
    for (const part of key) {
      if (typeof part === "string") this.absorbText(part);
      else {
        assertKeyInteger(part);
        this.absorb(part % TWO_32, Math.floor(part / TWO_32));
      }
    }
  }

  private absorb(low: number, tagged: number): void {
    const s = this.state;
    philox4x32(low, tagged, s[2]!, s[3]!, s[0]!, s[1]!, block);
    s.set(block);
  }

  private absorbText(text: string): void {
    const bytes = new TextEncoder().encode(text);
    let at = 0;
    do {
      let word = 0;
      for (let i = 0; i < 4; i++) word |= (bytes[at + i] ?? 0) << (8 * i);
      this.absorb(word, TEXT | bytes.length);
      at += 4;
    } while (at < bytes.length);
  }

  /** Uniform integer in [0, 2^32). The stream repeats after 2^34 of them. */
  uint32(): number {
    if (this.left === 0) {
      const s = this.state;
      philox4x32(this.counter, STREAM, s[2]!, s[3]!, s[0]!, s[1]!, this.buffer);
      this.counter = (this.counter + 1) | 0;
      this.left = 4;
    }
    return this.buffer[4 - this.left--]!;
  }

  /** Uniform in [0, 1), a multiple of 2^-24: exact as float32. */
  float(): number {
    return (this.uint32() >>> 8) * 2 ** -24;
  }

  /** Uniform between `low` and `high`. */
  uniform(low: number, high: number): number {
    return low + (high - low) * this.float();
  }

  /** Standard normal, by Box–Muller: two numbers from two words, the second kept for the next call. */
  normal(): number {
    const spare = this.spareNormal;
    if (!Number.isNaN(spare)) {
      this.spareNormal = Number.NaN;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log((this.uint32() + 1) / TWO_32));
    const angle = 2 * Math.PI * (this.uint32() / TWO_32);
    this.spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Uniform integer in [0, n), without bias: words beyond the last multiple of `n` are drawn again. 1 <= n <= 2^32. */
  int(n: number): number {
    if (!(Number.isInteger(n) && n >= 1 && n <= TWO_32)) {
      throw new UsageError(`Philox.int: expected an integer from 1 to 2^32, got ${n}`);
    }
    const limit = TWO_32 - (TWO_32 % n);
    let word = this.uint32();
    while (word >= limit) word = this.uint32();
    return word % n;
  }

  /** Shuffles in place (Fisher–Yates); every order is equally likely. */
  shuffle<T>(array: { readonly length: number; [index: number]: T }): void {
    for (let i = array.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const kept = array[i]!;
      array[i] = array[j]!;
      array[j] = kept;
    }
  }
}

function assertKeyInteger(value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) {
    throw new UsageError(`Philox: expected seed and numeric key parts to be integers from 0 to 2^53 - 1, got ${value}`);
  }
}
