/** What a network wants to see of an image at inference: size, crop, normalisation; and the way there, as in timm. */
import { ShapeError, UsageError } from "../errors.js";
import { type Normalisation, normaliseInto, normaliseTable } from "./normalise.js";
import { centreCrop, type Pixels, toChannels } from "./pixels.js";
import { type Interpolation, resizeToCover } from "./resize.js";

export interface Preprocessing extends Normalisation {
  /** The network's input, in pixels. */
  height: number;
  width: number;
  channels: number;
  interpolation: Interpolation;
  /** Share of the resized image's sides that the centre crop keeps, in (0, 1]. */
  cropPct: number;
}

/**
 * Grey or RGB as wanted; scaled until its sides just cover floor(side / cropPct); centre crop; normalised.
 * An image that already has the network's size is taken as it is, whatever `cropPct` says.
 * Returns (1, H, W, C), dense.
 */
export function preprocess(pixels: Pixels, preprocessing: Preprocessing): Float32Array {
  const { height, width, channels, mean, cropPct, interpolation } = preprocessing;
  if (!(cropPct > 0 && cropPct <= 1)) throw new UsageError(`preprocess: expected cropPct in (0, 1], got ${cropPct}`);
  const table = normaliseTable(preprocessing);
  if ((channels !== 1 && channels !== 3) || mean.length !== channels) {
    throw new ShapeError(
      `preprocess: expected 1 or 3 channels with one mean each, got ${channels} channels, ${mean.length} means`,
    );
  }
  let image = toChannels(pixels, channels);
  if (image.height !== height || image.width !== width) {
    image = resizeToCover(image, Math.floor(height / cropPct), Math.floor(width / cropPct), interpolation);
    image = centreCrop(image, height, width);
  }
  const out = new Float32Array(height * width * channels);
  normaliseInto(image, table, out, 0);
  return out;
}
