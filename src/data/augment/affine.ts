/** Rotation, shear and translation of 8-bit pixels, bit for bit as Pillow's `Image.transform(AFFINE)` and `rotate`. */
import { allocPixels, type Pixels } from "../../image/pixels.js";
import type { Interpolation } from "../../image/resize.js";
import type { Philox } from "../../random/philox.js";

/** (a, b, c, d, e, f): output (x, y) shows input (a x + b y + c, d x + e y + f), both measured from the corner. */
export type Matrix = readonly [number, number, number, number, number, number];

export interface Sampling {
  interpolation: Interpolation;
  /** Colour of what lies outside of the image, one byte a channel. */
  fill: readonly number[];
}

export function randomInterpolation(random: Philox): Interpolation {
  return random.int(2) === 0 ? "bilinear" : "bicubic";
}

export function affine(pixels: Pixels, [a, b, c, d, e, f]: Matrix, { interpolation, fill }: Sampling): Pixels {
  const { height, width, channels } = pixels;
  const sample = interpolation === "bilinear" ? sampleBilinear : sampleBicubic;
  const out = allocPixels(height, width, channels);
  let to = 0;
  for (let row = 0; row < height; row++) {
    const yOut = row + 0.5;
    for (let column = 0; column < width; column++) {
      const xOut = column + 0.5;
      const x = a * xOut + b * yOut + c;
      const y = d * xOut + e * yOut + f;
      const inside = x >= 0 && x < width && y >= 0 && y < height;
      for (let k = 0; k < channels; k++) {
        out.data[to++] = inside ? sample(pixels, x - 0.5, y - 0.5, k) : fill[k]!;
      }
    }
  }
  return out;
}

/** `x`, `y` here count from the centre of the first pixel; beyond the border the border's pixels repeat. */
function sampleBilinear(pixels: Pixels, x: number, y: number, channel: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const upper = lineBilinear(pixels, x0, x - x0, y0, channel);
  const lower = lineBilinear(pixels, x0, x - x0, y0 + 1, channel);
  return Math.trunc(upper + (lower - upper) * (y - y0));
}

function lineBilinear(pixels: Pixels, x0: number, dx: number, y: number, channel: number): number {
  const left = at(pixels, x0, y, channel);
  return left + (at(pixels, x0 + 1, y, channel) - left) * dx;
}

function sampleBicubic(pixels: Pixels, x: number, y: number, channel: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const dx = x - x0;
  const value = cubic(
    lineBicubic(pixels, x0, dx, y0 - 1, channel),
    lineBicubic(pixels, x0, dx, y0, channel),
    lineBicubic(pixels, x0, dx, y0 + 1, channel),
    lineBicubic(pixels, x0, dx, y0 + 2, channel),
    y - y0,
  );
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
}

function lineBicubic(pixels: Pixels, x0: number, dx: number, y: number, channel: number): number {
  return cubic(
    at(pixels, x0 - 1, y, channel),
    at(pixels, x0, y, channel),
    at(pixels, x0 + 1, y, channel),
    at(pixels, x0 + 2, y, channel),
    dx,
  );
}

/** Cubic through four neighbours with a = -1: sharper than the one of `resize`, but Pillow's. */
function cubic(v0: number, v1: number, v2: number, v3: number, d: number): number {
  const p1 = v1;
  const p2 = -v0 + v2;
  const p3 = 2 * (v0 - v1) + v2 - v3;
  const p4 = -v0 + v1 - v2 + v3;
  return p1 + d * (p2 + d * (p3 + d * p4));
}

function at({ data, height, width, channels }: Pixels, x: number, y: number, channel: number): number {
  const row = y < 0 ? 0 : y >= height ? height - 1 : y;
  const column = x < 0 ? 0 : x >= width ? width - 1 : x;
  return data[(row * width + column) * channels + channel]!;
}

/** Turns counter-clockwise about the centre. */
export function rotate(pixels: Pixels, degrees: number, sampling: Sampling): Pixels {
  const turn = degrees - 360 * Math.floor(degrees / 360);
  if (turn === 0) return pixels;
  const angle = (-turn * Math.PI) / 180;
  const cos = round15(Math.cos(angle));
  const sin = round15(Math.sin(angle));
  const cx = pixels.width / 2;
  const cy = pixels.height / 2;
  return affine(pixels, [cos, sin, cos * -cx + sin * -cy + cx, -sin, cos, -sin * -cx + cos * -cy + cy], sampling);
}

/** To 15 decimals, as Pillow does so that right angles are exact. */
function round15(x: number): number {
  return Number(x.toFixed(15));
}

/** Rows move left by `factor` pixels for every pixel that they lie below the top edge. */
export function shearX(pixels: Pixels, factor: number, sampling: Sampling): Pixels {
  return affine(pixels, [1, factor, 0, 0, 1, 0], sampling);
}

/** Columns move up by `factor` pixels for every pixel that they lie right of the left edge. */
export function shearY(pixels: Pixels, factor: number, sampling: Sampling): Pixels {
  return affine(pixels, [1, 0, 0, factor, 1, 0], sampling);
}

/** Moves the image to the left by `share` of its width. */
export function translateX(pixels: Pixels, share: number, sampling: Sampling): Pixels {
  return affine(pixels, [1, 0, share * pixels.width, 0, 1, 0], sampling);
}

/** Moves the image up by `share` of its height. */
export function translateY(pixels: Pixels, share: number, sampling: Sampling): Pixels {
  return affine(pixels, [1, 0, 0, 0, 1, share * pixels.height], sampling);
}
