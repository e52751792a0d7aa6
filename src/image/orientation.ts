/** EXIF orientation: how an image that a camera stored lying or mirrored is turned upright. */
import { allocPixels, type Pixels } from "./pixels.js";

const ORIENTATION = 0x0112;
const SHORT = 3;

/**
 * The orientation, 1 (upright) to 8, that an EXIF block (a TIFF file, of which the first directory counts) asks for;
 * 1 where it says nothing sensible, because bad metadata spoil no image.
 */
export function readOrientation(exif: Uint8Array): number {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49; // "II", not "MM"
  if (exif.length < 8 || view.getUint16(2, little) !== 42) return 1;
  const directory = view.getUint32(4, little);
  if (directory + 2 > exif.length) return 1;
  const entries = view.getUint16(directory, little);
  for (let i = 0, at = directory + 2; i < entries && at + 12 <= exif.length; i++, at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION || view.getUint16(at + 2, little) !== SHORT) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** The image turned upright as Pillow's `exif_transpose` does; itself where it is. */
export function upright(pixels: Pixels, orientation: number): Pixels {
  if (orientation === 1) return pixels;
  const { data, height, width, channels } = pixels;
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBottom = [3, 4, 6, 7].includes(orientation);
  const transposed = orientation >= 5;
  const origin = (fromRight ? width - 1 : 0) + (fromBottom ? (height - 1) * width : 0);
  const right = fromRight ? -1 : 1;
  const below = fromBottom ? -width : width;
  const [across, down] = transposed ? [below, right] : [right, below];
  const out = transposed ? allocPixels(width, height, channels) : allocPixels(height, width, channels);
  for (let row = 0, to = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++) {
      const from = (origin + row * down + column * across) * channels;
      for (let c = 0; c < channels; c++) out.data[to++] = data[from + c]!;
    }
  }
  return out;
}
