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
  onProgress: (done: number, total: number) => void = () => {},
): Promise<{ mean: number[]; std: number[] }> {
  const order = Int32Array.from({ length: dataset.length }, (_, i) => i);
  new Philox(seed, "pixel statistics").shuffle(order);
  const sum = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let pixels = 0;
  const sample = order.subarray(0, SAMPLE);
  for (const [k, i] of sample.entries()) {
    const image = await read(dataset, i, channels);
    onProgress(k + 1, sample.length);
    if (image === null) continue;
    // A plain loop: a photo has tens of millions of values.
    const { data } = image;
    for (let c = 0; c < channels; c++) {
      let [values, squared] = [0, 0];
      for (let at = c; at < data.length; at += channels) {
        const value = data[at]!;
        values += value;
        squared += value * value;
      }
      sum[c]! += values / 255;
      squares[c]! += squared / 255 ** 2;
    }
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
