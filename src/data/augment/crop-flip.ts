/** Zero-pad and crop, and horizontal flip, in one copy. */
import type { Pixels } from "../../image/pixels.js";

/**
 * Fills `out` with the part of `pixels` that starts at (top, left), mirrored left to right if `flip`; what lies outside of
 * `pixels` is 0 (black). Same channels. Allocates nothing: it runs on every training image.
 */
export function cropFlip(pixels: Pixels, top: number, left: number, flip: boolean, out: Pixels): void {
  const { data, height, width, channels } = pixels;
  let to = 0;
  for (let y = top; y < top + out.height; y++) {
    for (let i = 0; i < out.width; i++) {
      const x = left + (flip ? out.width - 1 - i : i);
      const inside = y >= 0 && y < height && x >= 0 && x < width;
      const from = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) out.data[to++] = inside ? data[from + c]! : 0;
    }
  }
}
