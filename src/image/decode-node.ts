/** Encoded image (PNG or JPEG, told apart by their first bytes) to pixels, in Node. One code path, no native decoder. */
import { FormatError } from "../errors.js";
import { decodeJpeg, isJpeg } from "./jpeg-node.js";
import type { Pixels } from "./pixels.js";
import { decodePng, isPng } from "./png-node.js";

export interface DecodeOptions {
  /** Grey or RGB; the image is converted as Pillow does. */
  channels: 1 | 3;
  /** Larger images are refused by their header, before any memory is taken. Default: 25 million. */
  maxPixels?: number;
}

/**
 * The image as Pillow's `Image.open(...).convert("RGB" | "L")` would give it: transparency, orientation and colour profile
 * are ignored. A broken, truncated, too large or unknown file rejects with a `FormatError` that names the problem.
 */
export async function decodeImage(
  bytes: Uint8Array,
  { channels, maxPixels = 25_000_000 }: DecodeOptions,
): Promise<Pixels> {
  const checkSize = (height: number, width: number) => {
    if (height * width > maxPixels) {
      throw new FormatError(`image: ${width}x${height} pixels are more than the limit of ${maxPixels}`);
    }
  };
  if (isPng(bytes)) return decodePng(bytes, channels, checkSize);
  if (isJpeg(bytes)) return decodeJpeg(bytes, channels, checkSize);
  if (bytes.length === 0) throw new FormatError("image: the file is empty");
  const start = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new FormatError(`image: expected a PNG or JPEG file, got one that starts with ${start}`);
}
