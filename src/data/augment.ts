/**
 * Training augmentation: pixels of an image to a normalised sample. In timm's order: crop, flip, RandAugment, colour jitter,
 * normalise, random erasing. All chance comes from the given stream, so a sample depends on its key alone.
 */
import { ShapeError, UsageError } from "../errors.js";
import { type Normalisation, normaliseInto, normaliseTable } from "../image/normalise.js";
import { allocPixels, centreCrop, type Pixels } from "../image/pixels.js";
import { resizeToCover } from "../image/resize.js";
import type { Philox } from "../random/philox.js";
import type { AugmentConfig } from "../train/config.js";
import { colorJitter } from "./augment/color-jitter.js";
import { cropFlip } from "./augment/crop-flip.js";
import { parseRandAugment, randAugment } from "./augment/rand-augment.js";
import { randomErasing } from "./augment/random-erasing.js";
import { randomResizedCrop } from "./augment/random-resized-crop.js";

/** Writes the (height, width, channels) sample to out[at...]. Throws `ShapeError` where channels or room do not fit. */
export type Augment = (pixels: Pixels, random: Philox, out: Float32Array, at: number) => void;

/**
 * `mean` says how many channels (1 or 3) the pixels must have. Without `scale`, images of another size are first resized to
 * cover the target and cropped at the centre. Colour jitter applies beside RandAugment too (timm drops it there).
 * Crop and flip alone, on images of the target's size, allocate nothing. Throws `UsageError` for a wrong configuration.
 */
export function makeAugment(
  config: AugmentConfig,
  target: { height: number; width: number },
  normalise: Normalisation,
): Augment {
  validate(config);
  const { crop_pad: pad, scale, ratio, hflip, color_jitter: jitter, reprob } = config;
  const { height, width } = target;
  const rand = config.aa === null ? null : parseRandAugment(config.aa);
  const table = normaliseTable(normalise);
  const channels = normalise.mean.length as 1 | 3;
  const size = height * width * channels;
  const fill = normalise.mean.map((v) => Math.min(255, Math.round(255 * v)));
  const scratch = allocPixels(height, width, channels);

  return (pixels, random, out, at) => {
    if (pixels.channels !== channels) {
      throw new ShapeError(`augment: expected an image of ${channels} channels, got ${pixels.channels}`);
    }
    if (at < 0 || at + size > out.length) {
      throw new ShapeError(`augment: no room for ${size} floats at ${at} in an array of ${out.length}`);
    }
    const fitted = scale ? randomResizedCrop(pixels, scale, ratio, target, random) : fit(pixels, height, width);
    const top = pad > 0 ? random.int(2 * pad + 1) - pad : 0;
    const left = pad > 0 ? random.int(2 * pad + 1) - pad : 0;
    cropFlip(fitted, top, left, hflip > 0 && random.float() < hflip, scratch);
    let image = scratch;
    if (rand) image = randAugment(image, rand, fill, random);
    if (jitter > 0) image = colorJitter(image, jitter, random);
    normaliseInto(image, table, out, at);
    if (reprob > 0 && random.float() < reprob) randomErasing(out, at, height, width, channels, random);
  };
}

function fit(pixels: Pixels, height: number, width: number): Pixels {
  if (pixels.height === height && pixels.width === width) return pixels;
  return centreCrop(resizeToCover(pixels, height, width, "bilinear"), height, width);
}

function validate({ crop_pad, scale, ratio, hflip, color_jitter, reprob }: AugmentConfig): void {
  const expect = (valid: boolean, name: string, expected: string, got: unknown) => {
    if (!valid) throw new UsageError(`augment.${name}: expected ${expected}, got ${JSON.stringify(got)}`);
  };
  const isShare = (v: number) => v >= 0 && v <= 1;
  const isRange = ([low, high]: [number, number]) => low > 0 && low <= high;
  expect(Number.isInteger(crop_pad) && crop_pad >= 0, "crop_pad", "a whole number of pixels, 0 or more", crop_pad);
  expect(scale === null || (isRange(scale) && scale[1] <= 1), "scale", "null or 0 < min <= max <= 1", scale);
  expect(isRange(ratio), "ratio", "0 < min <= max", ratio);
  expect(isShare(hflip), "hflip", "a probability", hflip);
  expect(color_jitter >= 0, "color_jitter", "0 or more", color_jitter);
  expect(isShare(reprob), "reprob", "a probability", reprob);
  if (scale !== null && crop_pad > 0) {
    throw new UsageError(
      "augment: crop_pad and scale (random-resized-crop) exclude each other, set one of them to 0 or null",
    );
  }
}
