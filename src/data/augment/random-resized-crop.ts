/** Random-resized-crop: a random part of the image, by area and aspect ratio, resized to the target. As torchvision. */
import { crop, type Pixels } from "../../image/pixels.js";
import { resize } from "../../image/resize.js";
import type { Philox } from "../../random/philox.js";
import { randomInterpolation } from "./affine.js";

const TRIES = 10;

export interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}

/**
 * A box inside `height` x `width`: its share of the area uniform in `scale`, its aspect ratio (width / height) log-uniform
 * in `ratio`. If ten tries do not fit: the largest centred box whose ratio is allowed.
 */
export function randomBox(
  height: number,
  width: number,
  scale: readonly [number, number],
  ratio: readonly [number, number],
  random: Philox,
): Box {
  const area = height * width;
  for (let i = 0; i < TRIES; i++) {
    const boxArea = area * random.uniform(scale[0], scale[1]);
    const aspect = Math.exp(random.uniform(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = Math.round(Math.sqrt(boxArea * aspect));
    const h = Math.round(Math.sqrt(boxArea / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      return { top: random.int(height - h + 1), left: random.int(width - w + 1), height: h, width: w };
    }
  }
  const whole = width / height;
  const w = whole > ratio[1] ? Math.round(height * ratio[1]) : width;
  const h = whole < ratio[0] ? Math.round(width / ratio[0]) : height;
  return { top: (height - h) >> 1, left: (width - w) >> 1, height: h, width: w };
}

/** Bilinear or bicubic by chance, as timm trains. */
export function randomResizedCrop(
  pixels: Pixels,
  scale: readonly [number, number],
  ratio: readonly [number, number],
  target: { height: number; width: number },
  random: Philox,
): Pixels {
  const { top, left, height, width } = randomBox(pixels.height, pixels.width, scale, ratio, random);
  return resize(crop(pixels, top, left, height, width), target.height, target.width, randomInterpolation(random));
}
