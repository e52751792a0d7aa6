/**
 * Brightness, contrast, colour and sharpness: a blend of the image with one that lacks the property. Factor 0 is that one,
 * 1 the image, above 1 more than the image. Results are those of Pillow's ImageEnhance.
 */
import { allocPixels, type Pixels, toChannels } from "../../image/pixels.js";
import { mapValues } from "./tone.js";

/** As Pillow's `Image.blend`: in float32, rounded towards zero, clipped by the caller. */
function blend(lacking: number, value: number, factor: number): number {
  return Math.trunc(Math.fround(lacking + Math.fround(factor * (value - lacking))));
}

function blendImages(lacking: Pixels, pixels: Pixels, factor: number): Pixels {
  const single = Math.fround(factor);
  const out = allocPixels(pixels.height, pixels.width, pixels.channels);
  for (let i = 0; i < out.data.length; i++) {
    out.data[i] = Math.max(0, Math.min(255, blend(lacking.data[i]!, pixels.data[i]!, single)));
  }
  return out;
}

/** Against black. */
export function brightness(pixels: Pixels, factor: number): Pixels {
  const single = Math.fround(factor);
  return mapValues(pixels, (v) => blend(0, v, single));
}

/** Against the mean grey of the image. */
export function contrast(pixels: Pixels, factor: number): Pixels {
  const single = Math.fround(factor);
  const grey = toChannels(pixels, 1).data;
  let sum = 0;
  for (const v of grey) sum += v;
  const mean = Math.trunc(sum / grey.length + 0.5);
  return mapValues(pixels, (v) => blend(mean, v, single));
}

/** Saturation: against the image in grey. A grey image stays as it is. */
export function color(pixels: Pixels, factor: number): Pixels {
  if (pixels.channels === 1) return pixels;
  return blendImages(toChannels(toChannels(pixels, 1), 3), pixels, factor);
}

/** Against the smoothed image. */
export function sharpness(pixels: Pixels, factor: number): Pixels {
  return blendImages(smooth(pixels), pixels, factor);
}

/** Pillow's SMOOTH: weights 5 in the middle and 1 around, over 13; the border pixels stay. */
function smooth({ data, height, width, channels }: Pixels): Pixels {
  const out = allocPixels(height, width, channels);
  out.data.set(data);
  const row = width * channels;
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * row + channels; i < (y + 1) * row - channels; i++) {
      let sum = 4 * data[i]!;
      for (let line = i - row; line <= i + row; line += row) {
        sum += data[line - channels]! + data[line]! + data[line + channels]!;
      }
      out.data[i] = Math.trunc((sum + 6.5) / 13);
    }
  }
  return out;
}
