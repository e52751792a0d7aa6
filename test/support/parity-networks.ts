/** The networks of the parity data on our code: table → supernet, files → spans. */
import type { Backend } from "../../src/backend/backend.js";
import { asFloat32 } from "../../src/io/float32.js";
import type { StoredTensor } from "../../src/io/safetensors.js";
import { build, type Supernet } from "../../src/models/build.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { allocSpan, readState, writeState } from "../../src/models/state.js";
import type { Slot } from "../../src/nn/width.js";
import { readJson, readStored, readValues, stateDict, type Values } from "./parity.js";

interface NetworkConfig {
  stem_widths: number[];
  stem_kernel: 3;
  stem_stride: 1 | 2;
  stages: { widths: number[]; depth: number; kernel: 3 | 5; stride: 1 | 2; kind: "ds" | "ir"; gated: boolean }[];
  classes: number;
  in_channels: 1 | 3;
  residual: boolean;
  activation: "swish" | "relu";
  se_ratio: number;
  expansion: number;
  gate_choices: number;
}

export const folders = ["tiny", "tiny_ir"] as const;
export type Folder = (typeof folders)[number];

export function parityConfig(folder: Folder): NetworkConfig & { image_size: number; batch: number } {
  return readJson(`${folder}/config.json`);
}

/** The network's table. `candidates`: the gate's, the first few if left out. */
export function paritySpec(
  config: NetworkConfig,
  size: number,
  candidates = Array.from({ length: config.gate_choices }, (_, k) => k),
): ModelSpec {
  return {
    description: "of the parity data",
    input: { height: size, width: size, channels: config.in_channels },
    stem: { kernel: config.stem_kernel, stride: config.stem_stride, widths: config.stem_widths },
    stages: config.stages.map(({ widths, depth, kernel, stride, kind, gated }) => ({
      block: kind === "ds" ? "separable" : "inverted",
      repeat: depth,
      kernel,
      stride,
      widths,
      expansion: config.expansion,
      ...(gated && { gates: [0] }),
    })),
    act: config.activation,
    norm: "bn",
    attention: config.se_ratio,
    residual: config.residual,
    classes: config.classes,
    candidates,
  };
}

export function parityNet(folder: Folder, candidates?: number[]): Supernet {
  const config = parityConfig(folder);
  return build(paritySpec(config, config.image_size, candidates));
}

/** A span filled with a state dict. */
export function spanOf(backend: Backend, net: Supernet, state: ReadonlyMap<string, StoredTensor>): number {
  const span = allocSpan(backend, net.layout.floats);
  readState(backend, net, span, state);
  return span;
}

/** A span with the weights of a folder. */
export function parityWeights(backend: Backend, net: Supernet, folder: Folder): number {
  return spanOf(backend, net, stateDict(readStored(`${folder}/weights.safetensors`)));
}

/** The images (N, C, H, W) behind all of a folder's results but recalibration's. */
export function parityImages(folder: Folder): Values {
  return readValues(`${folder}/eval.safetensors`).get("input")!;
}

/** The slot that a mode of the parity data stands for. */
export function slotOf(mode: string): Slot {
  if (mode === "largest") return "largest";
  return mode === "smallest" ? 0 : Number(mode.replace("width", ""));
}

/** A span's parameters, or gradients (which have no statistics), by name in the published layout. */
export function valuesOf(backend: Backend, net: Supernet, span: number, statistics = true): Map<string, Float32Array> {
  const stored = writeState(backend, net, span, { statistics });
  return new Map(Array.from(stored, ([name, tensor]) => [name, asFloat32(tensor)]));
}

/** n values at an address, copied. */
export function floatsAt(backend: Backend, at: number, count: number): Float32Array {
  return backend.f32.slice(at / 4, at / 4 + count);
}
