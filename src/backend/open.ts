/** Chooses a backend: native if it can, else WASM, and says why. */
import { platform } from "#platform";
import { BackendError, UsageError } from "../errors.js";
import type { Backend, Precision } from "./backend.js";
import { openNative } from "./native.js";
import { openWasm } from "./wasm.js";

export interface BackendOptions {
  /** "auto": native where there is an addon, else WASM. Default "auto". */
  device?: "auto" | "native" | "wasm";
  /** Threads that share the work; 0, the default: as many as there are cores. At most 64. */
  threads?: number;
  /** What it must be able to compute in. Default "fp32", which all can. */
  precision?: Precision;
  /** Forces an instruction set; for tests and benchmarks. */
  isa?: string;
}

const MAX_THREADS = 64;

/** Opens a backend of its own memory and threads. Throws a BackendError with each reason when none can start. */
export async function openBackend(options: BackendOptions = {}): Promise<Backend> {
  const { device = "auto", threads = 0, precision = "fp32", isa } = options;
  if (!["auto", "native", "wasm"].includes(device)) {
    throw new UsageError(`device must be "auto", "native" or "wasm", got ${JSON.stringify(device)}`);
  }
  if (!["fp32", "bf16"].includes(precision)) {
    throw new UsageError(`precision must be "fp32" or "bf16", got ${JSON.stringify(precision)}`);
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
      if (precision === "bf16" && backend.lacksBf16 !== null) {
        backend.dispose();
        throw new BackendError(`no bf16: ${backend.lacksBf16}`);
      }
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
  const asked = `device "${device}"${precision === "bf16" ? ', precision "bf16"' : ""}`;
  throw new BackendError(`No backend could start (${asked}):\n${reasons.join("\n")}`);
}
