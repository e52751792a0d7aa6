/** The binary versions of CIFAR-10 and CIFAR-100: records of label bytes and a planar 32×32 RGB image. */
import { FormatError } from "../../errors.js";
import { sharedBytes } from "../dataset.js";

export const CIFAR_SIZE = 32;
const PLANE = CIFAR_SIZE * CIFAR_SIZE;
const PIXELS = 3 * PLANE;

export interface CifarLabels {
  /** Label bytes at the start of a record. */
  bytes: 1 | 2;
  /** Which of them is the label. */
  at: 0 | 1;
  /** Number of classes. */
  classes: number;
}

export const CIFAR10: CifarLabels = { bytes: 1, at: 0, classes: 10 };
export const CIFAR100_COARSE: CifarLabels = { bytes: 2, at: 0, classes: 20 };
export const CIFAR100_FINE: CifarLabels = { bytes: 2, at: 1, classes: 100 };

/**
 * Joins the records of `files`. Returns images as (count, 32, 32, 3), pixels interleaved, and one label an image.
 * Throws `FormatError` where a file is no whole number of records or a label is out of range.
 */
export function parseCifar(
  files: { name: string; bytes: Uint8Array }[],
  { bytes: labelBytes, at, classes }: CifarLabels,
): { data: Uint8Array; labels: Int32Array } {
  const record = labelBytes + PIXELS;
  for (const { name, bytes } of files) {
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new FormatError(
        `${name}: expected records of ${record} bytes, got ${bytes.length} bytes, that is ${+(bytes.length / record).toFixed(2)} records: ` +
          "the file is truncated or of another format",
      );
    }
  }
  const count = files.reduce((sum, { bytes }) => sum + bytes.length / record, 0);
  const data = sharedBytes(count * PIXELS);
  const labels = new Int32Array(count);
  let image = 0;
  for (const { name, bytes } of files) {
    for (let start = 0; start < bytes.length; start += record, image++) {
      const label = bytes[start + at]!;
      if (label >= classes) {
        throw new FormatError(`${name}: record ${start / record} has label ${label}, expected 0 to ${classes - 1}`);
      }
      labels[image] = label;
      const red = start + labelBytes;
      for (let p = 0, to = image * PIXELS; p < PLANE; p++, to += 3) {
        data[to] = bytes[red + p]!;
        data[to + 1] = bytes[red + PLANE + p]!;
        data[to + 2] = bytes[red + 2 * PLANE + p]!;
      }
    }
  }
  return { data, labels };
}

/** Parses batches.meta.txt and *_label_names.txt: one class name a line. */
export function parseClassNames(bytes: Uint8Array, classes: number, name: string): string[] {
  const names = new TextDecoder()
    .decode(bytes.slice())
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (names.length !== classes) throw new FormatError(`${name}: expected ${classes} class names, got ${names.length}`);
  return names;
}
