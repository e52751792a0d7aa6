/** What a model file answers once it is loaded. */
import type { Width } from "../../src/engine/network.js";
import { load } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";

/** Logits at each of the widths. */
export async function logitsOf(
  file: ModelFile,
  device: "native" | "wasm",
  images: Float32Array,
  widths: readonly Width[],
) {
  const network = await load(encodeModel(file), { device, threads: 1 });
  try {
    return widths.map((width) => network.run(images, { width }));
  } finally {
    network.dispose();
  }
}
