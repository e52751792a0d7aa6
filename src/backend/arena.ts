/**
 * Hands out pieces of a backend's linear memory: first fit among the holes, neighbours joined again when freed. Only bookkeeping;
 * the memory itself is the backend's, and what it holds is undefined until written.
 */
import { MemoryError } from "../errors.js";

const ALIGNMENT = 64;
/** Kernels may read, never write, this far past a tensor. */
const GUARD = 64;

interface Block {
  size: number;
  scope: Set<number> | null;
}

interface Hole {
  start: number;
  end: number;
}

export class Arena {
  /** Bytes that are allocated, each allocation rounded up to 64. */
  inUse = 0;
  /** The largest `inUse` so far. */
  peak = 0;
  /** Bytes there could be. */
  readonly limit: number;
  readonly #grow: (end: number) => boolean;
  readonly #start: number;
  readonly #end: number;
  readonly #blocks = new Map<number, Block>();
  /** Free pieces below `#top`, by address, never two side by side. */
  readonly #holes: Hole[] = [];
  #top: number;
  #scope: Set<number> | null = null;

  /** Manages bytes from `start` to below `end`. `grow` makes memory up to an end usable, or returns false where that fails. */
  constructor(start: number, end: number, grow: (end: number) => boolean = () => true) {
    this.#start = this.#top = Math.max(align(start), ALIGNMENT); // offset 0 means "absent"
    this.#end = end - GUARD;
    this.limit = this.#end - this.#start;
    this.#grow = grow;
  }

  /**
   * Offset of at least `bytes` bytes, on 64. Belongs to the innermost `scope` that is open, unless `keep`: then it lives until
   * it is freed. Throws a MemoryError when there is no such piece.
   */
  alloc(bytes: number, keep = false): number {
    if (!(bytes >= 0)) throw new RangeError(`arena: cannot allocate ${bytes} bytes`);
    const size = Math.max(align(bytes), ALIGNMENT);
    const offset = this.#takeHole(size) ?? this.#extend(size);
    const scope = keep ? null : this.#scope;
    scope?.add(offset);
    this.#blocks.set(offset, { size, scope });
    this.inUse += size;
    this.peak = Math.max(this.peak, this.inUse);
    return offset;
  }

  free(offset: number): void {
    const block = this.#blocks.get(offset);
    if (!block) throw new RangeError(`arena: nothing is allocated at ${offset}`);
    this.#blocks.delete(offset);
    block.scope?.delete(offset);
    this.inUse -= block.size;
    this.#addHole(offset, offset + block.size);
  }

  /** Runs `fn`, then frees whatever it allocated and did not free or keep, also when it throws. `fn` is synchronous. */
  scope<T>(fn: () => T): T {
    const outer = this.#scope;
    const scope = new Set<number>();
    this.#scope = scope;
    try {
      return fn();
    } finally {
      this.#scope = outer;
      for (const offset of scope) this.free(offset);
    }
  }

  #takeHole(size: number): number | undefined {
    const index = this.#holes.findIndex((hole) => hole.end - hole.start >= size);
    if (index < 0) return undefined;
    const hole = this.#holes[index]!;
    const offset = hole.start;
    hole.start += size;
    if (hole.start === hole.end) this.#holes.splice(index, 1);
    return offset;
  }

  #extend(size: number): number {
    const offset = this.#top;
    const end = offset + size;
    if (end > this.#end || !this.#grow(end + GUARD)) throw this.#full(size);
    this.#top = end;
    return offset;
  }

  #addHole(start: number, end: number): void {
    const holes = this.#holes;
    let low = 0;
    for (let high = holes.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (holes[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    const below = holes[low - 1];
    const above = holes[low];
    const hole = { start: below?.end === start ? below.start : start, end: above?.start === end ? above.end : end };
    const from = hole.start < start ? low - 1 : low;
    const joined = (hole.start < start ? 1 : 0) + (hole.end > end ? 1 : 0);
    if (hole.end === this.#top) {
      this.#top = hole.start;
      holes.splice(from, joined);
    } else {
      holes.splice(from, joined, hole);
    }
  }

  #full(size: number): MemoryError {
    const hole = this.#holes.reduce((most, { start, end }) => Math.max(most, end - start), this.#end - this.#top);
    return new MemoryError(
      `The arena is full: ${mebibytes(size)} asked for, ${mebibytes(this.inUse)} of at most ${mebibytes(this.limit)} in use, ` +
        `the largest free piece at most ${mebibytes(hole)}. Use a smaller batch or smaller images.`,
    );
  }
}

const align = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
