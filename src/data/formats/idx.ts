/** IDX, the format of MNIST and its kin: big-endian magic number, one size a dimension, then bytes. */
import { FormatError } from "../../errors.js";

export interface IdxImages {
  count: number;
  height: number;
  width: number;
  /** (count, height, width), a view of the file's bytes. */
  data: Uint8Array;
}

/** Parses `*-images-idx3-ubyte`. `name` is for messages. */
export function parseIdxImages(bytes: Uint8Array, name: string): IdxImages {
  const { sizes, data } = parseIdx(bytes, 3, name, "images");
  const [count, height, width] = sizes as [number, number, number];
  return { count, height, width, data };
}

/** Parses `*-labels-idx1-ubyte`. */
export function parseIdxLabels(bytes: Uint8Array, name: string): Int32Array {
  return Int32Array.from(parseIdx(bytes, 1, name, "labels").data);
}

function parseIdx(bytes: Uint8Array, dims: number, name: string, what: string): { sizes: number[]; data: Uint8Array } {
  const header = 4 + 4 * dims;
  if (bytes.length < header) {
    throw new FormatError(
      `${name}: expected an IDX header of ${header} bytes, the file has ${bytes.length}: it is truncated`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0);
  const expected = 0x800 + dims; // 0x08: unsigned bytes
  if (magic !== expected) {
    throw new FormatError(`${name}: expected IDX ${what}, magic number ${hex(expected)}, got ${hex(magic)}`);
  }
  const sizes = Array.from({ length: dims }, (_, d) => view.getUint32(4 + 4 * d));
  if (sizes.includes(0)) throw new FormatError(`${name}: is empty, its header says ${sizes.join("×")}`);
  const length = sizes.reduce((a, b) => a * b);
  const data = bytes.subarray(header);
  if (data.length !== length) {
    throw new FormatError(
      `${name}: the header promises ${sizes.join("×")} = ${length} bytes, the file has ${data.length}: ` +
        `it is ${data.length < length ? "truncated" : "longer than it should be"}`,
    );
  }
  return { sizes, data };
}

const hex = (value: number): string => `0x${value.toString(16).padStart(8, "0")}`;
