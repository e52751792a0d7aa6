/** What a labelled set of images is; sets in memory and parts of sets. */
import { DataError, UsageError } from "../errors.js";
import type { Pixels } from "../image/pixels.js";
import { Philox } from "../random/philox.js";

/** Labelled images, addressed by index. Immutable. */
export interface Dataset {
  readonly name: string;
  readonly length: number;
  /** One class index an image, each `< classNames.length`. */
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  /** Size of every image; null: varies. */
  readonly size: { height: number; width: number } | null;
  /** Image `i`, to be read only (it may be a view of the set itself). A broken one rejects with `FormatError`. */
  pixels(i: number): Pixels | Promise<Pixels>;
  /** Where image `i` comes from, for messages. */
  describe(i: number): string;
}

/** Zeroed bytes that worker threads can read too, where the platform has shared memory. */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(
    typeof SharedArrayBuffer === "undefined" ? new ArrayBuffer(length) : new SharedArrayBuffer(length),
  );
}

function shared(bytes: Uint8Array): Uint8Array {
  if (typeof SharedArrayBuffer === "undefined" || bytes.buffer instanceof SharedArrayBuffer) return bytes;
  const copy = sharedBytes(bytes.length);
  copy.set(bytes);
  return copy;
}

export interface MemoryData {
  name: string;
  /** All images one after the other, each (height, width, channels). Copied unless it is shared memory (`sharedBytes`). */
  data: Uint8Array;
  height: number;
  width: number;
  channels: 1 | 3;
  labels: Int32Array;
  classNames: readonly string[];
}

/** Images of one size, decoded, in one block of memory. */
export class MemoryDataset implements Dataset {
  readonly name: string;
  readonly length: number;
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  readonly size: { height: number; width: number };
  readonly data: Uint8Array;

  /** Throws `DataError` where counts differ or a label names no class. */
  constructor({ name, data, height, width, channels, labels, classNames }: MemoryData) {
    const bytes = height * width * channels;
    if (data.length !== labels.length * bytes) {
      throw new DataError(
        `${name}: ${labels.length} labels need ${labels.length} images of ${bytes} bytes (${height}×${width}×${channels}), ` +
          `got ${data.length} bytes, that is ${+(data.length / bytes).toFixed(2)} images`,
      );
    }
    checkLabels(name, labels, classNames);
    this.name = name;
    this.length = labels.length;
    this.labels = labels;
    this.classNames = classNames;
    this.channels = channels;
    this.size = { height, width };
    this.data = shared(data);
  }

  pixels(i: number): Pixels {
    const { height, width } = this.size;
    const bytes = height * width * this.channels;
    return { data: this.data.subarray(i * bytes, (i + 1) * bytes), height, width, channels: this.channels };
  }

  describe(i: number): string {
    return `${this.name}, image ${i}`;
  }
}

/** Throws `DataError` at the first label that names no class. */
export function checkLabels(name: string, labels: Int32Array, classNames: readonly string[]): void {
  const bad = labels.findIndex((label) => label < 0 || label >= classNames.length);
  if (bad >= 0) {
    throw new DataError(
      `${name}: image ${bad} has label ${labels[bad]}, but there are ${classNames.length} classes (0 to ${classNames.length - 1})`,
    );
  }
}

/** The images of `base` that `indices` names, in that order. Copies no image. */
export class Subset implements Dataset {
  readonly name: string;
  readonly length: number;
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  readonly size: { height: number; width: number } | null;
  readonly base: Dataset;
  readonly indices: Int32Array;

  constructor(base: Dataset, indices: Int32Array) {
    const bad = indices.find((i) => i < 0 || i >= base.length);
    if (bad !== undefined) {
      throw new UsageError(`subset: ${base.name} has ${base.length} images, there is no image ${bad}`);
    }
    this.name = base.name;
    this.length = indices.length;
    this.labels = indices.map((i) => base.labels[i]!);
    this.classNames = base.classNames;
    this.channels = base.channels;
    this.size = base.size;
    this.base = base;
    this.indices = indices;
  }

  pixels(i: number): Pixels | Promise<Pixels> {
    return this.base.pixels(this.indices[i]!);
  }

  describe(i: number): string {
    return this.base.describe(this.indices[i]!);
  }
}

export function subset(dataset: Dataset, indices: ArrayLike<number>): Dataset {
  return new Subset(dataset, Int32Array.from(indices));
}

/** `count` images drawn at random, the same ones for the same seed; a smaller draw is part of a larger one. */
export function sample(dataset: Dataset, count: number, seed: number): Dataset {
  if (!Number.isInteger(count) || count < 1 || count > dataset.length) {
    throw new UsageError(`${dataset.name} has ${dataset.length} images: ${count} cannot be drawn from it`);
  }
  const order = Int32Array.from({ length: dataset.length }, (_, i) => i);
  new Philox(seed, "sample").shuffle(order);
  return new Subset(dataset, order.slice(0, count));
}

/**
 * Holds out `share` of every class (rounded to whole images), drawn at random, the same ones for the same seed. Both parts
 * keep the order of the set.
 */
export function split(dataset: Dataset, share: number, seed: number): { kept: Dataset; heldOut: Dataset } {
  if (!(share > 0 && share < 1)) throw new UsageError(`split: expected a share between 0 and 1, got ${share}`);
  const members: number[][] = dataset.classNames.map(() => []);
  for (const [i, label] of dataset.labels.entries()) members[label]!.push(i);
  const out = new Uint8Array(dataset.length);
  members.forEach((images, label) => {
    new Philox(seed, "split", label).shuffle(images);
    for (const i of images.slice(0, Math.round(share * images.length))) out[i] = 1;
  });
  const all = Array.from(dataset.labels.keys());
  const kept = all.filter((i) => !out[i]);
  const heldOut = all.filter((i) => out[i]);
  if (kept.length === 0 || heldOut.length === 0) {
    throw new DataError(
      `${dataset.name}: holding out ${share} of every class leaves ${kept.length} and ${heldOut.length} images: use another share or more images`,
    );
  }
  return { kept: subset(dataset, kept), heldOut: subset(dataset, heldOut) };
}
