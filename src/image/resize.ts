/**
 * Antialiased resize of 8-bit pixels, bit for bit as Pillow's `Image.resize`: when shrinking, the filter widens with the
 * scale; weights are 22-bit fixed point; rows first, then columns, rounded and clipped to 8 bits after each.
 */
import { FormatError, UsageError } from "../errors.js";
import { allocPixels, MAX_PIXELS, type Pixels } from "./pixels.js";

export type Interpolation = "bilinear" | "bicubic";

const PRECISION_BITS = 32 - 8 - 2;
const HALF = 1 << (PRECISION_BITS - 1);

interface Filter {
  /** Half width at scale 1, in pixels. */
  support: number;
  weight(x: number): number;
}

/** Keys' cubic with a = -0.5. */
const CUBIC_A = -0.5;

const filters: Record<Interpolation, Filter> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const d = Math.abs(x);
      if (d < 1) return ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1;
      if (d < 2) return (((d - 5) * d + 8) * d - 4) * CUBIC_A;
      return 0;
    },
  },
};

/** For each output index: the first input index, how many inputs, and their weights (`taps` apart). */
interface Coefficients {
  start: Int32Array;
  count: Int32Array;
  weights: Int32Array;
  taps: number;
}

function coefficients(inSize: number, outSize: number, filter: Filter): Coefficients {
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = filter.support * filterScale;
  const taps = Math.ceil(support) * 2 + 1;
  const inverse = 1 / filterScale;
  const start = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const weights = new Int32Array(outSize * taps);
  const exact = new Float64Array(taps);
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const n = Math.min(inSize, Math.trunc(centre + support + 0.5)) - first;
    let sum = 0;
    for (let k = 0; k < n; k++) {
      exact[k] = filter.weight((k + first - centre + 0.5) * inverse);
      sum += exact[k]!;
    }
    for (let k = 0; k < n; k++) {
      const weight = sum === 0 ? exact[k]! : exact[k]! / sum;
      weights[i * taps + k] = Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * (1 << PRECISION_BITS));
    }
    start[i] = first;
    count[i] = n;
  }
  return { start, count, weights, taps };
}

/** A sum of fixed-point products, already rounded up by HALF, to a byte. */
function toByte(sum: number): number {
  return Math.max(0, Math.min(255, sum >> PRECISION_BITS));
}

function resizeRows(pixels: Pixels, width: number, filter: Filter): Pixels {
  const { height, channels, data } = pixels;
  const { start, count, weights, taps } = coefficients(pixels.width, width, filter);
  const out = allocPixels(height, width, channels);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += channels) {
      let from = (y * pixels.width + start[x]!) * channels;
      const first = x * taps;
      const last = first + count[x]!;
      let r = HALF;
      let g = HALF;
      let b = HALF;
      if (channels === 1) {
        for (let k = first; k < last; k++) r += data[from++]! * weights[k]!;
        out.data[to] = toByte(r);
      } else {
        for (let k = first; k < last; k++, from += 3) {
          const weight = weights[k]!;
          r += data[from]! * weight;
          g += data[from + 1]! * weight;
          b += data[from + 2]! * weight;
        }
        out.data[to] = toByte(r);
        out.data[to + 1] = toByte(g);
        out.data[to + 2] = toByte(b);
      }
    }
  }
  return out;
}

function resizeColumns(pixels: Pixels, height: number, filter: Filter): Pixels {
  const { width, channels, data } = pixels;
  const { start, count, weights, taps } = coefficients(pixels.height, height, filter);
  const out = allocPixels(height, width, channels);
  const row = width * channels;
  const sums = new Int32Array(row);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]!; k++) {
      const weight = weights[y * taps + k]!;
      const from = (start[y]! + k) * row;
      for (let i = 0; i < row; i++) sums[i] = sums[i]! + data[from + i]! * weight;
    }
    for (let i = 0; i < row; i++) out.data[y * row + i] = toByte(sums[i]!);
  }
  return out;
}

/** The image at `height` x `width`; itself if it has that size. Cost: the rows pass runs over every input row. */
export function resize(pixels: Pixels, height: number, width: number, interpolation: Interpolation): Pixels {
  if (!(Number.isInteger(height) && Number.isInteger(width) && height > 0 && width > 0)) {
    throw new UsageError(`resize: expected a positive whole height and width, got ${height}x${width}`);
  }
  const filter = filters[interpolation];
  const rows = pixels.width === width ? pixels : resizeRows(pixels, width, filter);
  return rows.height === height ? rows : resizeColumns(rows, height, filter);
}

/**
 * Rows and columns of the image scaled so that it just covers `height` x `width`, its aspect kept. For a square this is torchvision's
 * `Resize(size)`: shorter side to `size`, longer side rounded down. FormatError where a very long image would take more than
 * `MAX_PIXELS` so.
 */
export function coverSize(pixels: Pixels, height: number, width: number): [rows: number, columns: number] {
  const [rows, columns] =
    pixels.width * height <= pixels.height * width
      ? [Math.floor((width * pixels.height) / pixels.width), width]
      : [height, Math.floor((height * pixels.width) / pixels.height)];
  if (rows * columns > MAX_PIXELS) {
    throw new FormatError(
      `image: ${pixels.width}x${pixels.height} is too long: ${columns}x${rows} pixels cover ${width}x${height}. Crop it first`,
    );
  }
  return [rows, columns];
}

/** The image at its `coverSize`. */
export function resizeToCover(pixels: Pixels, height: number, width: number, interpolation: Interpolation): Pixels {
  return resize(pixels, ...coverSize(pixels, height, width), interpolation);
}
