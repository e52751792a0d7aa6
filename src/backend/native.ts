/** The native addon as a backend. */
import { platform } from "#platform";
import { BackendError } from "../errors.js";
import { Backend } from "./backend.js";
import { KERNELS_HASH } from "./generated/kernels-hash.js";
import type { NativeAddon } from "./platform.js";

/** What 32-bit offsets and Node 20's longest ArrayBuffer allow, less a page. Only what is touched costs memory. */
const ARENA_BYTES = 2 ** 32 - 65536;

/** Opens the addon at its best instruction set, or at `isa`. Throws a BackendError that says why not. */
export function openNative(threads: number, isa?: string): Backend {
  const addon = platform.loadNative(KERNELS_HASH);
  if (typeof addon === "string") throw new BackendError(addon);
  const isas = addon.isas();
  const index = isa === undefined ? 0 : isas.indexOf(isa);
  if (index < 0) throw new BackendError(`no "${isa}" on this machine; there is ${isas.join(", ")}`);
  return new NativeBackend(addon, index, isas[index]!, threads);
}

/** Instruction sets that `openNative` takes here, best first; none without an addon. */
export function nativeIsas(): string[] {
  const addon = platform.loadNative(KERNELS_HASH);
  return typeof addon === "string" ? [] : addon.isas();
}

class NativeBackend extends Backend {
  readonly #addon: NativeAddon;
  readonly #isa: number;
  readonly #memory: ArrayBuffer;

  constructor(addon: NativeAddon, index: number, isa: string, threads: number) {
    const memory = createArena(addon);
    const lacksBf16 = addon.lacksBf16(index) || null;
    super({ name: "native", isa, threads, notes: [], lacksBf16 }, memory, 0, memory.byteLength);
    this.#addon = addon;
    this.#isa = index;
    this.#memory = memory;
  }

  override run(records: number, count: number, n = 0): void {
    this.#addon.run(this.#memory, records, count, n, this.threads, this.#isa);
  }

  override scratchBytes(record: number): number {
    return this.#addon.scratch(this.#memory, record, this.threads, this.#isa);
  }

  override dispose(): void {
    if (this.#memory.byteLength > 0) this.#addon.freeArena(this.#memory);
  }

  protected override grow(): boolean {
    return false; // all there is was mapped at the start
  }
}

function createArena(addon: NativeAddon): ArrayBuffer {
  try {
    return addon.createArena(ARENA_BYTES);
  } catch (cause) {
    throw new BackendError(`no memory for its arena: ${(cause as Error).message}`, { cause });
  }
}
