/**
 * The parity data: numbers that a reference implementation computed in float64, how they are read, the formula that makes the
 * large inputs, and when a float32 result agrees. All of it lies in ../shared, a part of it in test/fixtures; tests of files that
 * are not at hand skip.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { after, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { Backend } from "../../src/backend/backend.js";
import { nativeIsas } from "../../src/backend/native.js";
import { openBackend } from "../../src/backend/open.js";
import { readSafetensors, type StoredTensor } from "../../src/io/safetensors.js";

const shared = resolve("../shared/parity");
export const parityRoot = existsSync(shared)
  ? shared
  : fileURLToPath(new URL("../../../test/fixtures/parity", import.meta.url));

/** For `skip`: false, or which of these files of the parity data is not at hand. */
export function lacks(...paths: string[]): string | false {
  const missing = paths.find((path) => !existsSync(`${parityRoot}/${path}`));
  return missing === undefined ? false : `${missing} is in ../shared/parity only, which is not here`;
}

/** The backends that parity is checked on. They are disposed after the tests of the file that asks for them. */
export async function parityBackends(): Promise<Backend[]> {
  const devices = nativeIsas().length > 0 ? (["native", "wasm"] as const) : (["wasm"] as const);
  const backends = await Promise.all(devices.map((device) => openBackend({ device, threads: 1 })));
  after(() => {
    for (const backend of backends) backend.dispose();
  });
  return backends;
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(`${parityRoot}/${path}`, "utf8")) as T;
}

/** Tensors as they lie in a file of the parity data. */
export function readStored(path: string): Map<string, StoredTensor> {
  return readSafetensors(new Uint8Array(readFileSync(`${parityRoot}/${path}`))).tensors;
}

/** A tensor's values as doubles: F32, F64, I64 (all below 2^53) and BOOL are exact. */
export interface Values {
  shape: readonly number[];
  data: Float64Array;
}

export function readValues(path: string): Map<string, Values> {
  return new Map(Array.from(readStored(path), ([name, tensor]) => [name, toValues(tensor)]));
}

function toValues({ dtype, shape, data }: StoredTensor): Values {
  const bytes = data.slice().buffer;
  switch (dtype) {
    case "F32":
      return { shape, data: Float64Array.from(new Float32Array(bytes)) };
    case "F64":
      return { shape, data: new Float64Array(bytes) };
    case "I64":
      return { shape, data: Float64Array.from(new BigInt64Array(bytes), Number) };
    case "BOOL":
      return { shape, data: Float64Array.from(new Uint8Array(bytes)) };
    default:
      throw new Error(`the parity data has no ${dtype}`);
  }
}

/**
 * The state dict among `tensors`: what begins with `prefix`, which is cut off. Leaves out the counters that the reference's norms
 * keep and never move.
 */
export function stateDict(tensors: ReadonlyMap<string, StoredTensor>, prefix = ""): Map<string, StoredTensor> {
  const state = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    if (!name.startsWith(prefix)) continue;
    if (!name.endsWith(".num_batches_tracked")) state.set(name.slice(prefix.length), tensor);
    else
      assert.ok(
        tensor.data.every((byte) => byte === 0),
        name,
      );
  }
  return state;
}

/** N, C, H, W → N, H, W, C. */
export function toNHWC({ shape, data }: Values): Float32Array {
  const [n, c, h, w] = shape as [number, number, number, number];
  const out = new Float32Array(data.length);
  for (let i = 0; i < n * c; i++) {
    const to = Math.floor(i / c) * c * h * w + (i % c);
    for (let p = 0; p < h * w; p++) out[to + p * c] = data[i * h * w + p]!;
  }
  return out;
}

/** N, H, W, C → N, C, H, W. */
export function toNCHW(data: ArrayLike<number>, n: number, c: number): Float64Array {
  const pixels = data.length / (n * c);
  const out = new Float64Array(data.length);
  for (let i = 0; i < n * c; i++) {
    const from = Math.floor(i / c) * c * pixels + (i % c);
    for (let p = 0; p < pixels; p++) out[i * pixels + p] = data[from + p * c]!;
  }
  return out;
}

/** Measured float32 gap of each result, from a folder's tolerances.json. */
export type Tolerances = Record<string, { max_rel_to_tensor_max: number }>;

/** `part`: which of the folder's results. */
export function tolerancesOf(folder: string, part: string): Tolerances {
  return readJson<Record<string, Tolerances>>(`${folder}/tolerances.json`)[part]!;
}

/**
 * Collects how far results are from the reference. A tensor agrees when max |got − want| ≤ 10 · max(gap, 1e-6) · max |want| + 1e-9,
 * where gap is the reference's own between float32 and float64.
 */
export class Comparison {
  readonly #tolerances: Tolerances;
  readonly #rows = new Map<string, { gap: number; limit: number; share: number; tensor: string; count: number }>();

  constructor(tolerances: Tolerances) {
    this.#tolerances = tolerances;
  }

  /** `key`: the entry in tolerances.json, where that is not the tensor's name. */
  near(name: string, got: ArrayLike<number>, want: ArrayLike<number>, key = this.#key(name)): void {
    const entry = this.#tolerances[key];
    assert.ok(entry !== undefined, `no tolerance for ${key}`);
    this.within(name, got, want, 10 * Math.max(entry.max_rel_to_tensor_max, 1e-6), key);
  }

  /** As `near` with a tolerance of its own, relative to the tensor's largest value; `row` names its line in the table. */
  within(name: string, got: ArrayLike<number>, want: ArrayLike<number>, relative: number, row = name): void {
    assert.equal(got.length, want.length, `${name}: number of values`);
    let gap = 0;
    let largest = 0;
    for (let i = 0; i < want.length; i++) {
      const off = Math.abs(got[i]! - want[i]!);
      gap = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(gap, off);
      largest = Math.max(largest, Math.abs(want[i]!));
    }
    const share = gap / (relative * largest + 1e-9);
    const line = row.replace(/(?<!step)\d+/g, "#");
    const before = this.#rows.get(line);
    const count = (before?.count ?? 0) + 1;
    const worst =
      before !== undefined && before.share >= share
        ? before
        : { gap: gap / Math.max(largest, Number.MIN_VALUE), limit: relative, share, tensor: name };
    this.#rows.set(line, { ...worst, count });
  }

  #key(name: string): string {
    if (Object.hasOwn(this.#tolerances, name)) return name;
    return Object.keys(this.#tolerances).find((key) => key.endsWith("*") && name.startsWith(key.slice(0, -1))) ?? name;
  }

  /** Prints the table and fails where a tensor was too far off. */
  report(t: TestContext, backend?: Backend): void {
    const lines = Array.from(this.#rows, ([row, { gap, limit, share, tensor, count }]) => {
      const numbers = `${gap.toExponential(1)} of ${limit.toExponential(1)}`;
      return `${row.padEnd(40)} ${numbers.padEnd(20)} ${`${(share * 100).toFixed(0)} %`.padStart(6)}  ${count} (${tensor})`;
    });
    const title = `${t.name}${backend === undefined ? "" : `, ${backend.build}`}: largest gap, relative, of what is allowed`;
    t.diagnostic([title, ...lines].join("\n"));
    const off = Array.from(this.#rows).filter(([, { share }]) => !(share <= 1));
    assert.ok(
      off.length === 0,
      `too far from the reference: ${off.map(([row]) => row).join(", ")}\n${lines.join("\n")}`,
    );
    assert.ok(this.#rows.size > 0, "nothing was compared");
  }
}

// ---- the number formula: all arithmetic on 32-bit unsigned integers ----

export function fnv1a(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

export function mix(x: number): number {
  let y = x ^ (x >>> 16);
  y = Math.imul(y, 0x7feb352d);
  y ^= y >>> 15;
  y = Math.imul(y, 0x846ca68b);
  return (y ^ (y >>> 16)) >>> 0;
}

/** `count` numbers in [−1, 1) from element `from` on. */
export function signed(name: string, seed: number, count: number, from = 0): Float64Array {
  const start = mix(fnv1a(name) ^ seed);
  const out = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    out[i] = ((mix((start + Math.imul(from + i, 0x9e3779b9)) | 0) >>> 8) - 2 ** 23) / 2 ** 23;
  }
  return out;
}

export function uniform(name: string, seed: number, count: number, scale: number, shift: number): Float32Array {
  return Float32Array.from(signed(name, seed, count), (s) => s * scale + shift);
}

/** N, C, H, W images of `size` pixels along a side. */
export function images(seed: number, n: number, c: number, size: number, cell = 16): Values {
  const cells = Math.ceil(size / cell);
  const coarse = signed("image.coarse", seed, n * c * cells * cells);
  const fine = signed("image.fine", seed, n * c * size * size);
  const data = Float64Array.from(fine, (value, at) => {
    const x = at % size;
    const y = Math.floor(at / size) % size;
    const plane = Math.floor(at / (size * size));
    const image = Math.floor(plane / c);
    const block = coarse[(plane * cells + Math.floor(y / cell)) * cells + Math.floor(x / cell)]!;
    const contrast = [1, 0.25, 2, 0.5][image % 4]!;
    return Math.fround((1.5 * block + 0.5 * value) * contrast + (((5 * image) % 8) - 4) / 4);
  });
  return { shape: [n, c, size, size], data };
}
