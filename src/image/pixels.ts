/** Decoded images: uint8, rows of pixels of channels (HWC), dense. Sums and crops on them; no file format, no floats. */
import { ShapeError } from "../errors.js";

export interface Pixels {
  /** `height * width * channels` bytes. */
  data: Uint8Array;
  height: number;
  width: number;
  channels: 1 | 3;
}

/** Largest image that is made of a file, where nothing else is asked for. */
export const MAX_PIXELS = 25_000_000;

/** Zeroed pixels. */
export function allocPixels(height: number, width: number, channels: 1 | 3): Pixels {
  return { data: new Uint8Array(height * width * channels), height, width, channels };
}

/** ITU-R 601-2 luma in 16-bit fixed point, as Pillow's `convert("L")`. A grey (v, v, v) gives exactly v. */
export function luma(r: number, g: number, b: number): number {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

/** The image with 1 (luma) or 3 (replicated) channels; itself if it has them already. */
export function toChannels(pixels: Pixels, channels: 1 | 3): Pixels {
  if (pixels.channels === channels) return pixels;
  const { data, height, width } = pixels;
  const out = allocPixels(height, width, channels);
  const count = height * width;
  if (channels === 1) {
    for (let i = 0; i < count; i++) out.data[i] = luma(data[3 * i]!, data[3 * i + 1]!, data[3 * i + 2]!);
  } else {
    for (let i = 0; i < 3 * count; i++) out.data[i] = data[Math.trunc(i / 3)]!;
  }
  return out;
}

/** Copy of the rectangle at (top, left), which must lie inside the image. */
export function crop(pixels: Pixels, top: number, left: number, height: number, width: number): Pixels {
  if (top < 0 || left < 0 || top + height > pixels.height || left + width > pixels.width) {
    throw new ShapeError(
      `crop: ${height}x${width} at (${top}, ${left}) does not lie inside an image of ${pixels.height}x${pixels.width}`,
    );
  }
  const { channels } = pixels;
  const out = allocPixels(height, width, channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * pixels.width + left) * channels;
    out.data.set(pixels.data.subarray(from, from + width * channels), y * width * channels);
  }
  return out;
}

/** Copy of the middle; where it cannot be exact, the odd pixel falls as in torchvision's CenterCrop (half to even). */
export function centreCrop(pixels: Pixels, height: number, width: number): Pixels {
  if (pixels.height === height && pixels.width === width) return pixels;
  return crop(
    pixels,
    roundHalfEven((pixels.height - height) / 2),
    roundHalfEven((pixels.width - width) / 2),
    height,
    width,
  );
}

function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}
