/** Which backends can run here, and why others cannot. */
import { BackendError } from "../errors.js";
import { openBackend } from "./open.js";

export interface Checks {
  /** Best first. */
  backends: { name: string; isa?: string; available: boolean; reason?: string }[];
  /** Name of the one that `auto` takes. */
  chosen: string;
  /** Kernel threads by default. */
  threads: number;
  /** Why the chosen one cannot compute in bf16, null where it can. */
  lacksBf16: string | null;
}

/** Opens each backend in turn. */
export async function checks(): Promise<Checks> {
  const backends: Checks["backends"] = [];
  let chosen = "none";
  let threads = 0;
  let lacksBf16: string | null = "no backend";
  for (const device of ["native", "wasm"] as const) {
    try {
      const backend = await openBackend({ device });
      backends.push({ name: device, isa: backend.isa, available: true, reason: backend.notes.slice(1).join("; ") });
      if (chosen === "none") {
        chosen = device;
        threads = backend.threads;
        lacksBf16 = backend.lacksBf16;
      }
      backend.dispose();
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      backends.push({ name: device, available: false, reason: error.message.split("\n").slice(1).join("; ") });
    }
  }
  return { backends, chosen, threads, lacksBf16 };
}
