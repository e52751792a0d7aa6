/** The WASM modules as a backend: one for a single thread, one whose workers share the memory. */
import { platform } from "#platform";
import { BackendError } from "../errors.js";
import { Backend } from "./backend.js";

const PAGE = 65536;
const INITIAL_PAGES = 64;
const MAX_PAGES = 65536;
/** Growing moves or remaps memory in some engines: at least this much at a time. */
const GROWTH_PAGES = 256;
const WORKER_STACK = 131072;

/** What a worker runs: the pool's loop in kernels/parallel.c, on its own stack. */
const WORKER = `
function start({ module, memory, id, stack }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  exports.__stack_pointer.value = stack;
  exports.worker(id);
}`;

interface Exports {
  run(records: number, count: number, n: number, threads: number): void;
  scratch(record: number, threads: number): number;
  __heap_base: WebAssembly.Global;
}

/** Opens the WASM build; one thread, with a note, where memory cannot be shared. Throws a BackendError that says why not. */
export async function openWasm(threads: number): Promise<Backend> {
  if (typeof WebAssembly !== "object") throw new BackendError("this engine has no WebAssembly");
  const notes: string[] = [];
  if (threads > 1 && !canShareMemory()) {
    notes.push("one thread: sharing memory needs a cross-origin isolated page (COOP and COEP headers)");
    threads = 1;
  }
  const module = await compiled(threads > 1);
  const { memory, pages } = createMemory(threads > 1);
  const instance = await WebAssembly.instantiate(module, { env: { memory } });
  const backend = new WasmBackend(instance.exports as unknown as Exports, memory, pages, threads, notes);
  backend.startWorkers(module);
  return backend;
}

const modules = new Map<boolean, WebAssembly.Module>();

/** Compiled once, however many backends there will be. */
async function compiled(threaded: boolean): Promise<WebAssembly.Module> {
  const known = modules.get(threaded);
  if (known !== undefined) return known;
  const source = threaded ? import("./generated/wasm-threads.js") : import("./generated/wasm-simd.js");
  const bytes = Uint8Array.from(atob((await source).default), (character) => character.charCodeAt(0));
  const module = await WebAssembly.compile(bytes).catch((error: Error) => {
    throw new BackendError(`this engine lacks WebAssembly SIMD${threaded ? " or threads" : ""} (${error.message})`);
  });
  modules.set(threaded, module);
  return module;
}

function canShareMemory(): boolean {
  const { crossOriginIsolated } = globalThis as { crossOriginIsolated?: boolean }; // absent from Node, which may share
  return typeof SharedArrayBuffer === "function" && crossOriginIsolated !== false;
}

/** Address space for up to 4 GiB, or as many halvings less as the engine grants. */
function createMemory(shared: boolean): { memory: WebAssembly.Memory; pages: number } {
  for (let pages = MAX_PAGES; ; pages /= 2) {
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: pages, shared }), pages };
    } catch (error) {
      if (pages <= INITIAL_PAGES) throw new BackendError(`no memory: ${(error as Error).message}`);
    }
  }
}

class WasmBackend extends Backend {
  #instance: { exports: Exports; memory: WebAssembly.Memory } | null;
  readonly #stops: (() => void)[] = [];

  constructor(exports: Exports, memory: WebAssembly.Memory, pages: number, threads: number, notes: string[]) {
    const description = { isa: "simd128", threads, notes, lacksBf16: "WebAssembly has no bf16" };
    super({ name: "wasm", ...description }, memory.buffer, exports.__heap_base.value, pages * PAGE);
    this.#instance = { exports, memory };
  }

  startWorkers(module: WebAssembly.Module): void {
    const { memory } = this.#live();
    for (let id = 1; id < this.threads; id++) {
      const stack = this.arena.alloc(WORKER_STACK, true) + WORKER_STACK;
      const onError = (reason: string) => this.notes.push(`thread ${id} did not start: ${reason}`);
      this.#stops.push(platform.startWorker(WORKER, { module, memory, id, stack }, onError));
    }
  }

  override run(records: number, count: number, n = 0): void {
    this.#live().exports.run(records, count, n, this.threads);
  }

  override scratchBytes(record: number): number {
    return this.#live().exports.scratch(record, this.threads) >>> 0;
  }

  override dispose(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#instance = null;
    this.setMemory(new ArrayBuffer(0));
  }

  protected override grow(end: number): boolean {
    const { memory } = this.#live();
    const have = memory.buffer.byteLength / PAGE;
    const need = Math.ceil(end / PAGE) - have;
    for (const pages of [Math.max(need, GROWTH_PAGES, have >> 2), need]) {
      try {
        memory.grow(pages);
        this.setMemory(memory.buffer);
        return true;
      } catch {
        // More than the engine has: try with just what is needed.
      }
    }
    return false;
  }

  #live() {
    if (!this.#instance) throw new BackendError("this backend was disposed of");
    return this.#instance;
  }
}
