/** Chooses a backend: native if it can, else WASM, and says why. */
import { platform } from "#platform";
import { BackendError, UsageError } from "../errors.js";
import type { Backend } from "./backend.js";
import { openNative } from "./native.js";
import { openWasm } from "./wasm.js";

export interface BackendOptions {
  /** "auto": native where there is an addon, else WASM. Default "auto". */
  device?: "auto" | "native" | "wasm";
  /** Threads that share the work; 0, the default: as many as there are cores. At most 64. */
  threads?: number;
  /** Forces an instruction set; for tests and benchmarks. */
  isa?: string;
}

const MAX_THREADS = 64;

/** Opens a backend of its own memory and threads. Throws a BackendError with each reason when none can start. */
export async function openBackend({ device = "auto", threads = 0, isa }: BackendOptions = {}): Promise<Backend> {
  if (!["auto", "native", "wasm"].includes(device)) {
    throw new UsageError(`device must be "auto", "native" or "wasm", got ${JSON.stringify(device)}`);
  }
  if (!Number.isInteger(threads) || threads < 0 || threads > MAX_THREADS) {
    throw new UsageError(`threads must be a whole number from 0 (one for each core) to ${MAX_THREADS}, got ${threads}`);
  }
  const count = threads || Math.min(platform.cpuCount(), MAX_THREADS);
  const openers = {
    native: () => openNative(count, isa),
    wasm: () => {
      if (isa !== undefined && isa !== "simd128") throw new BackendError(`no "${isa}"; there is simd128`);
      return openWasm(count);
    },
  };
  const reasons: string[] = [];
  for (const name of device === "auto" ? (["native", "wasm"] as const) : [device]) {
    try {
      const backend = await openers[name]();
      backend.notes.unshift(
        `${backend.build}, ${backend.threads} ${backend.threads === 1 ? "thread" : "threads"}`,
        ...reasons,
      );
      return backend;
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      reasons.push(`${name}: ${error.message}`);
    }
  }
  throw new BackendError(`No backend could start (device "${device}"):\n${reasons.join("\n")}`);
}
