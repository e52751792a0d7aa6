/** Synthetic images for tests. */
import type { Pixels } from "../../src/image/pixels.js";
import type { Philox } from "../../src/random/philox.js";

/** Every value uniform in 0..255. */
export function noiseImage(height: number, width: number, channels: 1 | 3, random: Philox): Pixels {
  const data = Uint8Array.from({ length: height * width * channels }, () => random.int(256));
  return { data, height, width, channels };
}

/** An image with smooth parts, edges and noise; sometimes flat. */
export function testImage(height: number, width: number, channels: 1 | 3, random: Philox): Pixels {
  const data = new Uint8Array(height * width * channels);
  const noise = [0, 1, 30, 255][random.int(4)]!;
  const base = random.int(256);
  const slope = random.int(400) - 200;
  for (let i = 0; i < data.length; i++) {
    const x = Math.trunc(i / channels) % width;
    const edge = (x >> 2) % 3 === 0 ? 60 : 0;
    const value = base + (slope * i) / data.length + random.int(noise + 1) + (noise > 1 ? edge : 0);
    data[i] = Math.max(0, Math.min(255, value));
  }
  return { data, height, width, channels };
}
