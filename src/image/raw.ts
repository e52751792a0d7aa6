/** Raw pixels as a caller has them → ours. */
import { ShapeError, UsageError } from "../errors.js";
import type { Pixels } from "./pixels.js";

export interface RawImage {
  /** Row by row, channels together. */
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** Copies; alpha is dropped. */
export function fromRaw(image: RawImage): Pixels {
  const { data, width, height } = image ?? {};
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new UsageError(
      "image: expected a path, the bytes of a PNG or JPEG, or {data, width, height} with 8-bit data",
    );
  }
  const found = data.length / (width * height);
  const whole = [width, height].every((side) => Number.isInteger(side) && side > 0);
  if (!whole || (found !== 1 && found !== 3 && found !== 4)) {
    throw new ShapeError(
      `image: expected ${width}×${height} pixels of 1, 3 or 4 channels, got ${data.length} values of data`,
    );
  }
  if (found !== 4) return { data: Uint8Array.from(data), width, height, channels: found };
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgb[i * 3 + c] = data[i * 4 + c]!;
  }
  return { data: rgb, width, height, channels: 3 };
}
