/**
 * The safetensors container: named tensors and text metadata in one file. Reading gives views, never copies, and checks
 * everything the format demands; a file that passes has no hole, no overlap and no byte that belongs to nothing.
 * Format: https://github.com/huggingface/safetensors#format
 *
 * Every violation is a FormatError whose message begins with the reference reader's name for it, for example
 * `HeaderTooLarge`.
 */
import { FormatError } from "../errors.js";
import { JsonScanner, quote } from "./json-scanner.js";

/** Bits per element. In the order of the reference, by which the writer sorts: alignment never falls down the table. */
const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof DTYPE_BITS;

/** Every dtype the format knows, in the reference's order. */
export const DTYPES = Object.keys(DTYPE_BITS) as Dtype[];

/** One tensor as it lies in a file. */
export interface StoredTensor {
  dtype: Dtype;
  /** Row-major; `[]` is a scalar, a 0 makes the tensor empty. */
  shape: number[];
  /** Little-endian elements. A view into the file's bytes after reading, at any alignment. */
  data: Uint8Array;
}

export interface SafetensorsFile {
  metadata: Map<string, string>;
  /** In the order of their bytes. */
  tensors: Map<string, StoredTensor>;
}

const LENGTH_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";

interface Entry {
  name: string;
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

/** Its header's length has zeros in its upper bytes, and the header is JSON. */
export function looksLikeSafetensors(bytes: Uint8Array): boolean {
  return (
    bytes.length > 8 &&
    bytes.subarray(4, 8).every((byte) => byte === 0) &&
    "{ \n\r\t".includes(String.fromCharCode(bytes[8]!))
  );
}

/**
 * Reads a whole safetensors file.
 * - `bytes`: the file, nothing before or behind it
 * - returns the tensors as views of `bytes`; memory beyond that is bounded by the header's length
 *
 * Values are not looked at: NaN and infinities are legal.
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const headerBytes = headerLength(bytes);
  const dataStart = LENGTH_BYTES + headerBytes;
  const { metadata, entries } = parseHeader(decodeUtf8(bytes.subarray(LENGTH_BYTES, dataStart)));

  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const entry of entries) {
    if (entry.begin !== end || entry.end < entry.begin) {
      throw broken(
        "InvalidOffset",
        `tensor ${quote(entry.name)} should begin at byte ${end} of the data and not end before, it has [${entry.begin}, ${entry.end}]; tensors may leave no hole and not overlap.`,
      );
    }
    checkSize(entry.name, entry.dtype, entry.shape, entry.end - entry.begin);
    end = entry.end;
  }
  if (dataStart + end !== bytes.length) {
    throw broken(
      "MetadataIncompleteBuffer",
      `the header describes a file of ${dataStart + end} bytes, this one has ${bytes.length}; it is truncated or something was added.`,
    );
  }

  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, begin, end } of entries) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(dataStart + begin, dataStart + end) });
  }
  return { metadata, tensors };
}

/**
 * The bytes of a safetensors file, in the reference writer's order: by descending alignment of the dtype, then by name,
 * so that equal content gives equal bytes and each tensor is aligned to its element.
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string>,
): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort(
    ([nameA, a], [nameB, b]) =>
      DTYPES.indexOf(b.dtype) - DTYPES.indexOf(a.dtype) || (nameA < nameB ? -1 : nameA > nameB ? 1 : 0),
  );
  // Assembled by hand because an object cannot hold every name (`__proto__`).
  const members: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${jsonString(key)}:${jsonString(value)}`);
    members.push(`"${METADATA}":{${pairs.join(",")}}`);
  }
  let dataBytes = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    if (name === METADATA) throw broken("InvalidTensorName", `a tensor cannot be called ${METADATA}.`);
    if (!DTYPES.includes(dtype)) throw broken("TensorInvalidInfo", `tensor ${quote(name)} has unknown dtype ${dtype}.`);
    checkSize(name, dtype, shape, data.byteLength);
    const offsets = [dataBytes, dataBytes + data.byteLength];
    members.push(`${jsonString(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`);
    dataBytes += data.byteLength;
  }
  const text = new TextEncoder().encode(`{${members.join(",")}}`);
  const headerBytes = Math.ceil(text.length / 8) * 8;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw broken("HeaderTooLarge", `the header may have ${MAX_HEADER_BYTES} bytes, this one needs ${headerBytes}.`);
  }

  const file = new Uint8Array(LENGTH_BYTES + headerBytes + dataBytes);
  new DataView(file.buffer).setUint32(0, headerBytes, true);
  file.set(text, LENGTH_BYTES);
  file.fill(0x20, LENGTH_BYTES + text.length, LENGTH_BYTES + headerBytes);
  let at = LENGTH_BYTES + headerBytes;
  for (const [, { data }] of sorted) {
    file.set(data, at);
    at += data.byteLength;
  }
  return file;
}

function broken(name: string, explanation: string): FormatError {
  return new FormatError(`${name}: ${explanation}`);
}

function headerLength(bytes: Uint8Array): number {
  if (bytes.length < LENGTH_BYTES) {
    throw broken("HeaderTooSmall", `a safetensors file has at least ${LENGTH_BYTES} bytes, this one ${bytes.length}.`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES) {
    throw broken(
      "HeaderTooLarge",
      `the header may have ${MAX_HEADER_BYTES} bytes, the file claims ${length}; is this a safetensors file?`,
    );
  }
  if (LENGTH_BYTES + length > bytes.length) {
    throw broken(
      "InvalidHeaderLength",
      `the header should reach byte ${LENGTH_BYTES + length}, the file has ${bytes.length}; it is truncated.`,
    );
  }
  return length;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    // ignoreBOM keeps a byte order mark in the text, where the parser refuses it.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw broken("InvalidHeader", "the header should be UTF-8 text and is not.");
  }
}

function parseHeader(text: string): { metadata: Map<string, string>; entries: Entry[] } {
  const json = new JsonScanner(text, "InvalidHeaderDeserialization");
  const metadata = new Map<string, string>();
  const entries: Entry[] = [];
  json.object((name) => {
    if (name === METADATA) json.object((key) => metadata.set(key, json.string()));
    else entries.push(parseEntry(json, name));
  });
  json.end();
  return { metadata, entries };
}

function parseEntry(json: JsonScanner, name: string): Entry {
  let dtype: Dtype | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  json.object((key) => {
    if (key === "dtype") {
      const value = json.string();
      if (!(DTYPES as string[]).includes(value)) json.fail(`tensor ${quote(name)} has unknown dtype ${quote(value)}`);
      dtype = value as Dtype;
    } else if (key === "shape") shape = integers(json);
    else if (key === "data_offsets") offsets = integers(json);
    else json.fail(`tensor ${quote(name)} has unknown field ${quote(key)}`);
  });
  if (!dtype || !shape || !offsets) json.fail(`tensor ${quote(name)} lacks dtype, shape or data_offsets`);
  if (offsets.length !== 2) json.fail(`tensor ${quote(name)} should have 2 data_offsets, it has ${offsets.length}`);
  return { name, dtype, shape, begin: offsets[0]!, end: offsets[1]! };
}

function integers(json: JsonScanner): number[] {
  const list: number[] = [];
  json.array(() => list.push(json.integer()));
  return list;
}

/** Throws unless `bytes` is what shape and dtype need. */
function checkSize(name: string, dtype: Dtype, shape: number[], bytes: number): void {
  let bits: number = DTYPE_BITS[dtype];
  for (const size of shape) {
    // Every factor is an exact integer, so a product that stays below 2^53 is exact too.
    bits *= size;
    if (!Number.isSafeInteger(bits) || !Number.isSafeInteger(size) || size < 0) {
      throw broken("ValidationOverflow", `tensor ${quote(name)} has a size in bits that is no integer below 2^53.`);
    }
  }
  if (bits % 8 !== 0) {
    throw broken("MisalignedSlice", `tensor ${quote(name)} of ${dtype} has ${bits} bits, no whole number of bytes.`);
  }
  if (bits !== bytes * 8) {
    throw broken(
      "TensorInvalidInfo",
      `tensor ${quote(name)}, ${dtype} of shape [${shape.slice(0, 10)}], needs ${bits / 8} bytes and has ${bytes}.`,
    );
  }
}

function jsonString(text: string): string {
  if (/\p{Surrogate}/u.test(text)) {
    throw broken("InvalidHeader", `${quote(text)} holds half a surrogate pair, which UTF-8 cannot store.`);
  }
  return JSON.stringify(text);
}
