/** Model files with random weights, and what a loaded one answers. */
import type { Backend } from "../../src/backend/backend.js";
import type { Width } from "../../src/engine/network.js";
import { load } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { writeState } from "../../src/models/state.js";
import type { Slot } from "../../src/nn/width.js";
import { randomSpan } from "./networks.js";

/** Random weights of a network, all its widths taken for measured. */
export function fileOf(backend: Backend, spec: ModelSpec, seed = 0): ModelFile & { calibrated: Slot[] } {
  const net = build(spec);
  const { height, width, channels } = spec.input;
  const span = randomSpan(backend, net, seed);
  const tensors = writeState(backend, net, span);
  backend.arena.free(span);
  return {
    model: { name: "sample", spec },
    classes: Array.from({ length: spec.classes }, (_, c) => `class ${c}`),
    preprocessing: {
      ...{ height, width, channels },
      mean: Array(channels).fill(0.5),
      std: Array(channels).fill(0.5),
      interpolation: "bilinear",
      cropPct: 1,
    },
    candidates: [...(net.gates[0]?.candidates ?? [])],
    calibrated: [...Array(net.widths).keys(), ...(net.largestIsNumbered ? [] : ["largest" as const])],
    tensors,
  };
}

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
