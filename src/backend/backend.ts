/**
 * Memory and kernels, the same for every target: one linear memory (the arena), records in it, and a call that runs them. Knows
 * nothing of layers, widths or gates. Offsets and lengths are in bytes.
 */
import { Arena } from "./arena.js";
import { type Call, encode, RECORD_BYTES, scratchWord } from "./records.js";

/** What convolutions multiply in; they sum in fp32. */
export type Precision = "fp32" | "bf16";

export interface Description {
  readonly name: "native" | "wasm";
  /** Instruction set: "avx512", "avx2", "baseline", "neon" or "simd128". */
  readonly isa: string;
  /** Threads that share a run, the caller included. */
  readonly threads: number;
  /** What runs, and why nothing better does; for people. */
  readonly notes: string[];
  /** Why bf16 cannot be had, null where it can. */
  readonly lacksBf16: string | null;
}

export abstract class Backend implements Description {
  readonly name: "native" | "wasm";
  readonly isa: string;
  readonly threads: number;
  readonly notes: string[];
  readonly lacksBf16: string | null;
  /** The kernels' build, for example "native-avx512". The same build gives the same bits, whatever the threads. */
  readonly build: string;
  readonly arena: Arena;
  /** Views over the whole memory, index = offset / 4 (`u8`: offset). Any allocation may replace them: never keep one across it. */
  f32!: Float32Array;
  i32!: Int32Array;
  u8!: Uint8Array;

  readonly #record: number;
  #scratch = 0;
  #scratchBytes = 0;

  /** The arena lies in `memory` from `start` on and may grow up to `end`. */
  constructor(
    { name, isa, threads, notes, lacksBf16 }: Description,
    memory: ArrayBufferLike,
    start: number,
    end: number,
  ) {
    this.name = name;
    this.isa = isa;
    this.threads = threads;
    this.notes = notes;
    this.lacksBf16 = lacksBf16;
    this.build = `${name}-${isa}`;
    this.setMemory(memory);
    this.arena = new Arena(start, end, (to) => to <= this.u8.byteLength || this.grow(to));
    this.#record = this.arena.alloc(RECORD_BYTES, true);
  }

  /** Runs `count` records from the offset `records` on. `n`: the batch size of records that leave theirs open. */
  abstract run(records: number, count: number, n?: number): void;

  /** Bytes of scratch that the record at this offset needs, 0 for most. */
  abstract scratchBytes(record: number): number;

  /** Ends threads and gives the memory back; the views are empty afterwards. */
  abstract dispose(): void;

  /** Makes memory up to `end` usable and renews the views; false where that cannot be had. */
  protected abstract grow(end: number): boolean;

  /** Runs one op, with scratch where it needs some. */
  call(call: Call): void {
    const record = this.#record;
    encode(this.i32, this.f32, record / 4, call);
    const word = scratchWord(call.op);
    if (word > 0) {
      const need = this.scratchBytes(record);
      if (need > this.#scratchBytes) this.#growScratch(need);
      this.i32[record / 4 + word] = this.#scratch;
    }
    this.run(record, 1);
  }

  protected setMemory(memory: ArrayBufferLike): void {
    this.f32 = new Float32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.i32 = new Int32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.u8 = new Uint8Array(memory);
  }

  #growScratch(need: number): void {
    if (this.#scratch) this.arena.free(this.#scratch);
    this.#scratch = this.#scratchBytes = 0; // in case there is no more to be had
    this.#scratch = this.arena.alloc(need, true);
    this.#scratchBytes = need;
  }
}
