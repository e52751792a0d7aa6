/** Every backend this machine can run, for laws that hold on each: the native instruction sets, WASM with one thread and with two. */
import type { Backend } from "../../src/backend/backend.js";
import { nativeIsas } from "../../src/backend/native.js";
import { type BackendOptions, openBackend } from "../../src/backend/open.js";

export interface NamedBackend {
  name: string;
  backend: Backend;
}

/** Names and options of the backends, best first. A native one runs on `nativeThreads` threads. */
export function backendOptions(nativeThreads = 2): { name: string; options: BackendOptions }[] {
  return [
    ...nativeIsas().map((isa) => ({
      name: `native-${isa}`,
      options: { device: "native", isa, threads: nativeThreads } as const,
    })),
    { name: "wasm, 1 thread", options: { device: "wasm", threads: 1 } as const },
    { name: "wasm, 2 threads", options: { device: "wasm", threads: 2 } as const },
  ];
}

/** Opens them all. Whoever opens disposes. */
export async function backends(nativeThreads?: number): Promise<NamedBackend[]> {
  const options = backendOptions(nativeThreads);
  return Promise.all(options.map(async ({ name, options }) => ({ name, backend: await openBackend(options) })));
}
