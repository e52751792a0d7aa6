/** Model file → network on a backend. */
import { source } from "#source";
import { openBackend } from "../backend/open.js";
import { UsageError } from "../errors.js";
import { decodeModel, type ModelFile } from "../io/model-file.js";
import { Network } from "./network.js";

export interface LoadOptions {
  /** `auto`: native where the addon is built, else WASM; `network.device` says which and why. */
  device?: "auto" | "native" | "wasm";
  /** Kernel threads; 0, the default: one for each core. */
  threads?: number;
}

/** A model file from a path (browser: URL). */
export async function readModel(place: string): Promise<ModelFile> {
  return decodeModel(await source.read(place), place);
}

/**
 * Loads a model file: a path (browser: URL) or its bytes. Throws FormatError (not a model, broken, of a newer version),
 * BackendError (the device asked for is not there), UsageError (no such file), StorageError (it cannot be read).
 */
export async function load(model: string | Uint8Array, options: LoadOptions = {}): Promise<Network> {
  if (typeof model !== "string" && !(model instanceof Uint8Array)) {
    throw new UsageError("load: expected the path of a model file or its bytes");
  }
  const file = typeof model === "string" ? await readModel(model) : decodeModel(model);
  const backend = await openBackend(options);
  try {
    return new Network(backend, file);
  } catch (error) {
    backend.dispose();
    throw error;
  }
}
