/** Random erasing (Zhong et al., https://arxiv.org/abs/1708.04896), timm's mode "pixel": a rectangle becomes noise. */
import type { Philox } from "../../random/philox.js";

const TRIES = 10;
const AREA = [0.02, 1 / 3] as const;
const LOG_ASPECT = [Math.log(0.3), Math.log(1 / 0.3)] as const;

/**
 * Fills a random rectangle of the normalised image (height, width, channels) at image[at...] with standard normal noise, of
 * its own for every value. The rectangle's share of the area is uniform in 0.02..1/3, its aspect ratio log-uniform in
 * 0.3..1/0.3; if ten tries do not fit, nothing is erased.
 */
export function randomErasing(
  image: Float32Array,
  at: number,
  height: number,
  width: number,
  channels: number,
  random: Philox,
): void {
  for (let i = 0; i < TRIES; i++) {
    const area = height * width * random.uniform(AREA[0], AREA[1]);
    const aspect = Math.exp(random.uniform(LOG_ASPECT[0], LOG_ASPECT[1]));
    const h = Math.round(Math.sqrt(area * aspect));
    const w = Math.round(Math.sqrt(area / aspect));
    if (h >= height || w >= width) continue;
    const top = random.int(height - h + 1);
    const left = random.int(width - w + 1);
    for (let y = top; y < top + h; y++) {
      const start = at + (y * width + left) * channels;
      for (let k = start; k < start + w * channels; k++) image[k] = random.normal();
    }
    return;
  }
}
