/**
 * RandAugment (Cubuk et al., https://arxiv.org/abs/1909.13719) with timm's operations, magnitudes and notation:
 * "rand-m9-n2-mstd0.5-inc1".
 */
import { UsageError } from "../../errors.js";
import type { Pixels } from "../../image/pixels.js";
import type { Philox } from "../../random/philox.js";
import { randomInterpolation, rotate, type Sampling, shearX, shearY, translateX, translateY } from "./affine.js";
import { brightness, color, contrast, sharpness } from "./enhance.js";
import { autoContrast, equalize, invert, posterize, solarize, solarizeAdd } from "./tone.js";

export interface RandAugmentConfig {
  /** `m`: strength, 0..10. Default 10. */
  magnitude: number;
  /** `n`: operations drawn for an image, with replacement. Default 2. */
  layers: number;
  /** `mstd`: standard deviation of the strength, clipped to 0..10; above 100: uniform in 0..`magnitude`. Default 0. */
  magnitudeStd: number;
  /** `inc1`: strength only ever increases the change. Without it, timm's plain set, some weaken it. */
  increasing: boolean;
}

const MAX_MAGNITUDE = 10;

/** Each drawn operation is applied with this probability. */
const PROBABILITY = 0.5;

/** Throws `UsageError` for anything that is not RandAugment in timm's notation. */
export function parseRandAugment(text: string): RandAugmentConfig {
  const config: RandAugmentConfig = { magnitude: MAX_MAGNITUDE, layers: 2, magnitudeStd: 0, increasing: false };
  const bad = (why: string) =>
    new UsageError(
      `RandAugment "${text}": ${why}. Valid is "rand" followed by any of -m0 to -m10 (magnitude), -n1, -n2, ... ` +
        "(operations an image), -mstd0.5 (its deviation), -inc1 (increasing), for example rand-m9-n2-mstd0.5-inc1",
    );
  const [policy, ...sections] = text.split("-");
  if (policy !== "rand") throw bad('does not begin with "rand"');
  for (const section of sections) {
    const [, key, digits] = /^([a-z]+)(\d+(?:\.\d+)?)$/.exec(section) ?? [];
    const value = Number(digits);
    if (key === "m" && value <= MAX_MAGNITUDE) config.magnitude = value;
    else if (key === "n" && Number.isInteger(value) && value > 0) config.layers = value;
    else if (key === "mstd") config.magnitudeStd = value;
    else if (key === "inc" && (value === 0 || value === 1)) config.increasing = value === 1;
    else throw bad(`"${section}" is not understood`);
  }
  return config;
}

/** An operation at `level`, the magnitude as a share of 10. */
type Operation = (pixels: Pixels, level: number, draw: Draw) => Pixels;

/** What operations may draw. */
interface Draw {
  /** `value` or `-value`. */
  sign(value: number): number;
  sampling(): Sampling;
}

const geometric: Record<string, Operation> = {
  Rotate: (pixels, level, draw) => rotate(pixels, draw.sign(30 * level), draw.sampling()),
  ShearX: (pixels, level, draw) => shearX(pixels, draw.sign(0.3 * level), draw.sampling()),
  ShearY: (pixels, level, draw) => shearY(pixels, draw.sign(0.3 * level), draw.sampling()),
  TranslateXRel: (pixels, level, draw) => translateX(pixels, draw.sign(0.45 * level), draw.sampling()),
  TranslateYRel: (pixels, level, draw) => translateY(pixels, draw.sign(0.45 * level), draw.sampling()),
};

const common: Record<string, Operation> = {
  AutoContrast: autoContrast,
  Equalize: equalize,
  Invert: invert,
  SolarizeAdd: (pixels, level) => solarizeAdd(pixels, Math.trunc(110 * level)),
  ...geometric,
};

const enhancers = { Color: color, Contrast: contrast, Brightness: brightness, Sharpness: sharpness };

function enhanceAll(factor: (level: number, draw: Draw) => number): Record<string, Operation> {
  const entries = Object.entries(enhancers).map(([name, enhance]): [string, Operation] => [
    name,
    (pixels, level, draw) => enhance(pixels, factor(level, draw)),
  ]);
  return Object.fromEntries(entries);
}

/** Bits kept, and threshold of solarize. */
const bits = (level: number) => Math.trunc(4 * level);
const threshold = (level: number) => Math.trunc(256 * level);

/** By name; the two sets differ where the plain one gets weaker with a higher level. */
export const operations: { plain: Record<string, Operation>; increasing: Record<string, Operation> } = {
  plain: {
    ...common,
    Posterize: (pixels, level) => posterize(pixels, bits(level)),
    Solarize: (pixels, level) => solarize(pixels, threshold(level)),
    ...enhanceAll((level) => 1.8 * level + 0.1),
  },
  increasing: {
    ...common,
    Posterize: (pixels, level) => posterize(pixels, 4 - bits(level)),
    Solarize: (pixels, level) => solarize(pixels, 256 - threshold(level)),
    ...enhanceAll((level, draw) => Math.max(0.1, 1 + draw.sign(0.9 * level))),
  },
};

/** `fill`: colour of what a geometric operation moves in, one byte a channel; timm takes the mean. */
export function randAugment(
  pixels: Pixels,
  config: RandAugmentConfig,
  fill: readonly number[],
  random: Philox,
): Pixels {
  const choices = Object.values(config.increasing ? operations.increasing : operations.plain);
  const draw: Draw = {
    sign: (value) => (random.float() < 0.5 ? -value : value),
    sampling: () => ({ interpolation: randomInterpolation(random), fill }),
  };
  let image = pixels;
  for (let i = 0; i < config.layers; i++) {
    const operation = choices[random.int(choices.length)]!;
    if (random.float() < PROBABILITY) image = operation(image, randomMagnitude(config, random) / MAX_MAGNITUDE, draw);
  }
  return image;
}

function randomMagnitude({ magnitude, magnitudeStd }: RandAugmentConfig, random: Philox): number {
  if (magnitudeStd > 100) return random.uniform(0, magnitude);
  if (magnitudeStd === 0) return magnitude;
  return Math.max(0, Math.min(MAX_MAGNITUDE, magnitude + magnitudeStd * random.normal()));
}
