/** Model file → network on a backend. */
import { source } from "#source";
import type { Precision } from "../backend/backend.js";
import { openBackend } from "../backend/open.js";
import { UsageError } from "../errors.js";
import { decodeModel, type ModelFile } from "../io/model-file.js";
import { Network } from "./network.js";
import { checkKeys } from "./options.js";

export interface LoadOptions {
  /** `auto`: native where the addon is built, else WASM; `network.device` says which and why. */
  device?: "auto" | "native" | "wasm";
  /** Kernel threads; 0, the default: one for each core. */
  threads?: number;
  /**
   * `bf16`: convolutions and linear layers multiply in bf16 and sum in fp32, in 0.5 to 0.65 of the time and half the memory for
   * weights. It needs the native kernels and AVX512-BF16; a BackendError says what is missing. `auto`, the default, is `fp32`.
   */
  precision?: "auto" | Precision;
}

/** A model file from a path or the name of a shipped model (browser: URL). */
export async function readModel(place: string): Promise<ModelFile> {
  return decodeModel(await source.readModel(place), place);
}

/**
 * Loads a model file: in Node from a path or the name of a model that comes with the package, such as `fashion`; in a browser from a
 * URL; or from its bytes. Throws FormatError (not a model, broken, of a newer version), BackendError (the device asked for is not
 * there), UsageError (in Node: no such file; options that there are not), StorageError (it cannot be read or fetched).
 */
export async function load(model: string | Uint8Array, options: LoadOptions = {}): Promise<Network> {
  checkKeys(options, ["device", "threads", "precision"]);
  const { precision: asked = "auto", ...kernels } = options;
  if (typeof model !== "string" && !(model instanceof Uint8Array)) {
    throw new UsageError("load: expected the path or name of a model, or its bytes");
  }
  const file = typeof model === "string" ? await readModel(model) : decodeModel(model);
  const precision = asked === "auto" ? "fp32" : asked;
  const backend = await openBackend({ ...kernels, precision });
  try {
    return new Network(backend, file, precision);
  } catch (error) {
    backend.dispose();
    throw error;
  }
}
