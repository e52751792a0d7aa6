/** Colour jitter as torchvision's: brightness, contrast and saturation, each by its own random factor, in random order. */
import type { Pixels } from "../../image/pixels.js";
import type { Philox } from "../../random/philox.js";
import { brightness, color, contrast } from "./enhance.js";

/** Factors are uniform in [max(0, 1 - strength), 1 + strength]. */
export function colorJitter(pixels: Pixels, strength: number, random: Philox): Pixels {
  const properties = [brightness, contrast, color];
  random.shuffle(properties);
  return properties.reduce(
    (image, adjust) => adjust(image, random.uniform(Math.max(0, 1 - strength), 1 + strength)),
    pixels,
  );
}
