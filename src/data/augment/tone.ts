/** Pixel values through a table of 256, one table for all channels or one each. Results are those of Pillow's ImageOps. */
import { allocPixels, type Pixels } from "../../image/pixels.js";

/** `map` is rounded down and clipped to a byte; `map(v, channel)`. */
export function mapValues(pixels: Pixels, map: (value: number, channel: number) => number): Pixels {
  const { data, height, width, channels } = pixels;
  const table = new Uint8ClampedArray(256 * channels);
  for (let c = 0; c < channels; c++) {
    for (let v = 0; v < 256; v++) table[c * 256 + v] = Math.trunc(map(v, c));
  }
  const out = allocPixels(height, width, channels);
  for (let i = 0; i < data.length; i += channels) {
    for (let c = 0; c < channels; c++) out.data[i + c] = table[c * 256 + data[i + c]!]!;
  }
  return out;
}

export function invert(pixels: Pixels): Pixels {
  return mapValues(pixels, (v) => 255 - v);
}

/** Keeps the upper `bits` bits of every value, 0..8. */
export function posterize(pixels: Pixels, bits: number): Pixels {
  const mask = ~((1 << (8 - bits)) - 1);
  return mapValues(pixels, (v) => v & mask);
}

/** Inverts the values from `threshold` on. */
export function solarize(pixels: Pixels, threshold: number): Pixels {
  return mapValues(pixels, (v) => (v < threshold ? v : 255 - v));
}

/** Brightens the values below 128 by `add`. */
export function solarizeAdd(pixels: Pixels, add: number): Pixels {
  return mapValues(pixels, (v) => (v < 128 ? v + add : v));
}

/** Stretches each channel so that its darkest value becomes 0 and its brightest 255. */
export function autoContrast(pixels: Pixels): Pixels {
  const stretch = histograms(pixels).map((histogram) => {
    const low = histogram.findIndex((n) => n > 0);
    const high = histogram.findLastIndex((n) => n > 0);
    const scale = high > low ? 255 / (high - low) : 1;
    return { scale, offset: high > low ? -low * scale : 0 };
  });
  return mapValues(pixels, (v, c) => v * stretch[c]!.scale + stretch[c]!.offset);
}

/** Maps each channel so that its values become about equally frequent. */
export function equalize(pixels: Pixels): Pixels {
  const tables = histograms(pixels).map((histogram) => {
    const last = histogram.findLast((n) => n > 0) ?? 0;
    const step = Math.floor((pixels.height * pixels.width - last) / 255);
    if (step === 0) return null;
    let below = step >> 1;
    return Array.from(histogram, (n) => {
      const value = Math.floor(below / step);
      below += n;
      return value;
    });
  });
  return mapValues(pixels, (v, c) => tables[c]?.[v] ?? v);
}

/** One of 256 counts for each channel. */
function histograms({ data, channels }: Pixels): Uint32Array[] {
  const counts = Array.from({ length: channels }, () => new Uint32Array(256));
  for (let i = 0; i < data.length; i += channels) {
    for (let c = 0; c < channels; c++) counts[c]![data[i + c]!]!++;
  }
  return counts;
}
