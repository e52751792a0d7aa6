/** Bytes to normalised floats: (v / 255 - mean) / std, by a table of all 256 values for each channel. */
import { UsageError } from "../errors.js";
import type { Pixels } from "./pixels.js";

export interface Normalisation {
  /** One number a channel (1 or 3), in units of white = 1. */
  mean: number[];
  std: number[];
}

/** Channels * 256 floats; every step rounds to float32, so results are those of torchvision's ToTensor and Normalize. */
export function normaliseTable({ mean, std }: Normalisation): Float32Array {
  if ((mean.length !== 1 && mean.length !== 3) || std.length !== mean.length) {
    throw new UsageError(
      `normalise: expected mean and std with 1 or 3 numbers each, got ${mean.length}, ${std.length}`,
    );
  }
  if (!mean.every(Number.isFinite) || !std.every((v) => Number.isFinite(v) && v > 0)) {
    throw new UsageError(`normalise: expected a finite mean and std > 0, got mean [${mean}], std [${std}]`);
  }
  const table = new Float32Array(mean.length * 256);
  for (let c = 0; c < mean.length; c++) {
    for (let v = 0; v < 256; v++) {
      const centred = Math.fround(Math.fround(v / 255) - Math.fround(mean[c]!));
      table[c * 256 + v] = centred / Math.fround(std[c]!);
    }
  }
  return table;
}

/** Writes the image, (H, W, C) as it is, through a table of as many channels, to out[at...]. Allocates nothing. */
export function normaliseInto(pixels: Pixels, table: Float32Array, out: Float32Array, at: number): void {
  const { data, channels } = pixels;
  for (let i = 0; i < data.length; i += channels) {
    for (let c = 0; c < channels; c++) out[at + i + c] = table[c * 256 + data[i + c]!]!;
  }
}
