/**
 * What differs between Node and the browser, in a few functions. `#platform` in package.json's imports picks platform-node.ts or
 * platform-web.ts, so that a browser bundle never sees a Node module.
 */
export interface Platform {
  cpuCount(): number;
  /** The processor's model, or what else tells this device from others. */
  processor(): string;
  /** What `remember` was given last for this key on this device, as far as it keeps; null: nothing. */
  recall(key: string): string | null;
  /** Keeps a text for later runs, where it can. */
  remember(key: string, text: string): void;
  /**
   * Starts a thread that runs `source`, a script which defines `start(data)`, and calls that. It does not keep the process
   * alive. Returns what ends it; `onError` hears why it could not start.
   */
  startWorker(source: string, data: unknown, onError: (reason: string) => void): () => void;
  /** The addon built from the kernels with this hash, or why there is none. */
  loadNative(kernelsHash: string): NativeAddon | string;
}

/** kernels/addon.c */
export interface NativeAddon {
  /** Instruction sets compiled in that this processor has, best first; `isa` below is an index into them. */
  isas(): string[];
  /** Why these kernels cannot compute in bf16 here; "" where they can. */
  lacksBf16(isa: number): string;
  createArena(maxBytes: number): ArrayBuffer;
  freeArena(arena: ArrayBuffer): void;
  run(arena: ArrayBuffer, records: number, count: number, n: number, threads: number, isa: number): void;
  scratch(arena: ArrayBuffer, record: number, threads: number, isa: number): number;
}
