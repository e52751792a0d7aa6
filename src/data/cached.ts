/** A cache of decoded images in memory that threads share. */
import type { Pixels } from "../image/pixels.js";
import { type Dataset, sharedBytes } from "./dataset.js";

/**
 * Remembers decoded images of one size, so that small encoded images are decoded once, not every epoch. Fills as images are
 * asked for; images of other sizes pass through. Worker threads fill and read the same memory: two that decode the same
 * image write the same bytes. Takes length·height·width·channels bytes.
 */
export class CachedDataset implements Dataset {
  readonly name: string;
  readonly length: number;
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  readonly size: { height: number; width: number } | null;

  constructor(
    readonly base: Dataset,
    readonly cached: { height: number; width: number },
    /** The memory of another thread's cache of the same set; none: an empty one. */
    readonly store = sharedBytes(base.length * cached.height * cached.width * base.channels),
    /** 1 for every image that `store` holds. */
    readonly filled = sharedBytes(base.length),
  ) {
    this.name = base.name;
    this.length = base.length;
    this.labels = base.labels;
    this.classNames = base.classNames;
    this.channels = base.channels;
    this.size = base.size;
  }

  async pixels(i: number): Promise<Pixels> {
    const { height, width } = this.cached;
    const { channels } = this;
    const bytes = height * width * channels;
    const place = this.store.subarray(i * bytes, (i + 1) * bytes);
    if (Atomics.load(this.filled, i)) return { data: place, height, width, channels };
    const pixels = await this.base.pixels(i);
    if (pixels.height === height && pixels.width === width && pixels.channels === channels) {
      place.set(pixels.data);
      Atomics.store(this.filled, i, 1); // after the pixels: whoever sees the flag sees them
    }
    return pixels;
  }

  describe(i: number): string {
    return this.base.describe(i);
  }
}
