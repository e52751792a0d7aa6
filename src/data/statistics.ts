/** Mean and deviation of a dataset's pixels, for normalisation. */
import { FormatError } from "../errors.js";
import { toChannels } from "../image/pixels.js";
import { Philox } from "../random/philox.js";
import type { Dataset } from "./dataset.js";

const SAMPLE = 1000;

/** Per channel, of pixels scaled to 0..1, over at most 1000 images drawn by the seed; four decimals. Broken images are left out. */
export async function pixelStatistics(
  dataset: Dataset,
  channels: 1 | 3,
  seed: number,
): Promise<{ mean: number[]; std: number[] }> {
  const order = Int32Array.from({ length: dataset.length }, (_, i) => i);
  new Philox(seed, "pixel statistics").shuffle(order);
  const sum = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let pixels = 0;
  for (const i of order.subarray(0, SAMPLE)) {
    const image = await read(dataset, i, channels);
    if (image === null) continue;
    image.data.forEach((value, at) => {
      sum[at % channels]! += value / 255;
      squares[at % channels]! += (value / 255) ** 2;
    });
    pixels += image.height * image.width;
  }
  const round = (x: number) => Math.round(x * 1e4) / 1e4;
  const mean = Array.from(sum, (s) => s / Math.max(pixels, 1));
  return {
    mean: mean.map(round),
    std: mean.map((m, c) => Math.max(round(Math.sqrt(Math.max(squares[c]! / Math.max(pixels, 1) - m * m, 0))), 1e-3)),
  };
}

async function read(dataset: Dataset, i: number, channels: 1 | 3) {
  try {
    return toChannels(await dataset.pixels(i), channels);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
