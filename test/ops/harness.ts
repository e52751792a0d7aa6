/**
 * Runs a case on a backend and looks at every byte about it: its tensors lie between guards, what is not output must stay as it
 * was, and what was never written is NaN, so that it shows wherever it is used.
 */
import assert from "node:assert/strict";
import type { Backend } from "../../src/backend/backend.js";
import { type Call, encode, RECORD_BYTES, scratchWord } from "../../src/backend/records.js";
import type { Case, Data } from "../support/case.js";

/** A quiet NaN of an unlikely payload. */
const SENTINEL = 0x7fc0beef;
/** Words between two tensors. */
const GUARD = 16;

export const nameOf = (backend: Backend): string => `${backend.build} x${backend.threads}`;

export const bitsOf = (data: Data): Uint32Array => new Uint32Array(data.buffer, data.byteOffset, data.length);

export const sameBits = (a: Data, b: Data): boolean => Buffer.compare(bytesOf(bitsOf(a)), bytesOf(bitsOf(b))) === 0;

const bytesOf = (words: Uint32Array) => Buffer.from(words.buffer, words.byteOffset, words.byteLength);

export interface RunOptions {
  /** Leaves the record's batch size open and gives it to the run. */
  readonly openBatch?: boolean;
}

/** Runs the case and returns its outputs. Throws if anything else was written. */
export function runCase(backend: Backend, c: Case, { openBatch = false }: RunOptions = {}): Record<string, Data> {
  return backend.arena.scope(() => {
    const places = new Map<string, { word: number; data: Data }>();
    let words = GUARD;
    const place = (field: string, data: Data) => {
      places.set(field, { word: words, data });
      words += Math.ceil(data.length / 16) * 16 + GUARD;
    };
    for (const [field, data] of Object.entries(c.inputs)) place(field, data);
    for (const [field, output] of Object.entries(c.outputs)) {
      if (output.inPlaceOf) places.set(field, places.get(output.inPlaceOf)!);
      else place(field, output.before ?? sentinels(output.size));
    }

    // All memory first: an allocation may replace the views.
    const record = backend.arena.alloc(RECORD_BYTES);
    const start = backend.arena.alloc(words * 4);
    const offsets = Object.fromEntries([...places].map(([field, { word }]) => [field, start + word * 4]));
    const call = { op: c.op, ...c.words, ...offsets } as Call;
    encode(backend.i32, backend.f32, record / 4, call);
    const scratchBytes = backend.scratchBytes(record);
    const scratch = backend.arena.alloc(scratchBytes + GUARD * 4);

    const region = new Uint32Array(backend.u8.buffer, start, words);
    const scratchGuard = new Uint32Array(backend.u8.buffer, scratch, Math.ceil(scratchBytes / 4) + GUARD);
    region.fill(SENTINEL);
    scratchGuard.fill(SENTINEL);
    for (const { word, data } of places.values()) region.set(bitsOf(data), word);
    const before = region.slice();

    const scratchAt = scratchWord(call.op);
    if (scratchBytes > 0)
      assert.ok(scratchAt > 0, `${c.name}: asks for ${scratchBytes} bytes of scratch but has no field for it`);
    if (scratchAt > 0) backend.i32[record / 4 + scratchAt] = scratchBytes > 0 ? scratch : 0;
    if (openBatch) encode(backend.i32, backend.f32, record / 4, { ...call, scratch, n: 0 } as unknown as Call);
    backend.run(record, 1, openBatch ? c.words.n : 0);

    const results: Record<string, Data> = {};
    for (const [field, output] of Object.entries(c.outputs)) {
      const { word } = places.get(field)!;
      const bits = region.slice(word, word + output.size);
      results[field] = output.integer ? new Int32Array(bits.buffer) : new Float32Array(bits.buffer);
      before.set(bits, word);
    }
    if (Buffer.compare(bytesOf(region), bytesOf(before)) !== 0) {
      const at = region.findIndex((bits, word) => bits !== before[word]);
      const near = [...places].filter(([, { word }]) => word <= at).pop();
      const where = near ? `word ${at - near[1].word} of ${near[0]} (${near[1].data.length} words)` : "the word before";
      assert.fail(`${nameOf(backend)}: ${c.name} wrote where it must not: ${where}`);
    }
    const beyond = scratchGuard.subarray(Math.ceil(scratchBytes / 4));
    assert.ok(
      beyond.every((bits) => bits === SENTINEL),
      `${nameOf(backend)}: ${c.name} wrote beyond its ${scratchBytes} bytes of scratch`,
    );
    return results;
  });
}

const sentinels = (size: number): Float32Array => new Float32Array(new Uint32Array(size).fill(SENTINEL).buffer);

/** Compares with the reference: names the case, the index, what came, what should, and the tolerance. */
export function checkCase(backend: Backend, c: Case, index: number): void {
  const results = runCase(backend, c);
  for (const [field, { value, tolerance }] of Object.entries(c.expected())) {
    const got = results[field]!;
    const before = c.outputs[field]!.before;
    const at = value.findIndex((want, i) => {
      if (Number.isNaN(want)) return bitsOf(got)[i] !== bitsOf(before!)[i];
      return !(Math.abs(got[i]! - want) <= tolerance[i]!);
    });
    if (at < 0) continue;
    const want = Number.isNaN(value[at]) ? `${before![at]} as it was` : value[at];
    assert.fail(
      `${nameOf(backend)}: case ${index}, ${c.name}: ${field}[${at}] is ${got[at]}, should be ${want} within ${tolerance[at]}`,
    );
  }
}

/** Asserts that two runs left the same bits. */
export function assertSameBits(got: Data, want: Data, what: () => string): void {
  if (sameBits(got, want)) return;
  const at = bitsOf(got).findIndex((bits, i) => bits !== bitsOf(want)[i]);
  assert.fail(`${what()}: at ${at} ${got[at]} instead of ${want[at]}`);
}
