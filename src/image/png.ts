/**
 * PNG to pixels: every colour type, bit depth and interlacing of the standard, as Pillow's `convert("RGB")` or
 * `convert("L")` but for 16-bit grey. Own code because the decoders at hand inflate without bound and misread interlaced
 * images below 8 bits, and a browser's multiplies colours by alpha.
 */
import { source } from "#source";
import { FormatError } from "../errors.js";
import { crc32 } from "../io/crc32.js";
import { readOrientation, upright } from "./orientation.js";
import { allocPixels, luma, type Pixels } from "./pixels.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Some writers leave a little more image data than the image needs; more than this is an error. */
const SURPLUS_BYTES = 1 << 16;

const PALETTE = 3;

/** By colour type: samples a pixel, allowed bit depths. */
const colourTypes: Record<number, { samples: number; depths: number[] }> = {
  0: { samples: 1, depths: [1, 2, 4, 8, 16] },
  2: { samples: 3, depths: [8, 16] },
  [PALETTE]: { samples: 1, depths: [1, 2, 4, 8] },
  4: { samples: 2, depths: [8, 16] },
  6: { samples: 4, depths: [8, 16] },
};

/** [first x, first y, step x, step y] of each pass. */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
const ONE_PASS = [[0, 0, 1, 1]] as const;

interface Header {
  width: number;
  height: number;
  depth: number;
  colourType: number;
  samples: number;
  interlaced: boolean;
}

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/** `checkSize` is called with what the header says, before anything is decoded. Throws `FormatError`. */
export async function decodePng(
  bytes: Uint8Array,
  channels: 1 | 3,
  checkSize: (height: number, width: number) => void,
): Promise<Pixels> {
  const { header, palette, data, orientation } = readChunks(bytes, checkSize);
  const passes = header.interlaced ? ADAM7 : ONE_PASS;
  const sizes = passes.map(([x, y, dx, dy]) => ({
    width: Math.ceil((header.width - x) / dx),
    height: Math.ceil((header.height - y) / dy),
  }));
  const rowBytes = (width: number) => Math.ceil((width * header.samples * header.depth) / 8);
  let needed = 0;
  for (const { width, height } of sizes) if (width > 0) needed += height * (1 + rowBytes(width));

  const raw = await inflate(data, needed);
  const out = allocPixels(header.height, header.width, channels);
  const store = pixelWriter(header, palette, out);
  const stride = Math.ceil((header.samples * header.depth) / 8);
  let at = 0;
  passes.forEach(([x0, y0, dx, dy], pass) => {
    const { width, height } = sizes[pass]!;
    if (width <= 0) return;
    const length = rowBytes(width);
    const samples = new Uint8Array(width * header.samples);
    let previous: Uint8Array = new Uint8Array(length);
    for (let y = 0; y < height; y++) {
      const row = raw.subarray(at + 1, at + 1 + length);
      unfilter(raw[at]!, row, previous, stride);
      unpack(row, header, samples);
      for (let x = 0; x < width; x++) {
        store(samples, x * header.samples, (y0 + y * dy) * header.width + x0 + x * dx);
      }
      previous = row;
      at += 1 + length;
    }
  });
  return upright(out, orientation);
}

function readChunks(bytes: Uint8Array, checkSize: (height: number, width: number) => void) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let header: Header | undefined;
  let palette: Uint8Array | undefined;
  let orientation = 1;
  const data: Uint8Array[] = [];
  for (let at = SIGNATURE.length; ; ) {
    if (at + 12 > bytes.length) throw new FormatError("PNG: truncated, the file ends before its IEND chunk");
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const end = at + 8 + length;
    if (end + 4 > bytes.length) throw new FormatError(`PNG: truncated inside its ${printable(type)} chunk`);
    const body = bytes.subarray(at + 8, end);
    const critical = (bytes[at + 4]! & 0x20) === 0;
    if (critical && crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) {
      throw new FormatError(
        `PNG: checksum of the ${printable(type)} chunk at byte ${at} is wrong, the file is damaged`,
      );
    }
    if (header === undefined && type !== "IHDR") throw new FormatError("PNG: the first chunk is not IHDR");
    if (type === "IHDR") {
      header = parseHeader(body);
      checkSize(header.height, header.width);
    } else if (type === "PLTE") {
      if (length % 3 !== 0) throw new FormatError(`PNG: a palette of ${length} bytes, expected three for each colour`);
      palette = body;
    } else if (type === "IDAT") {
      data.push(body);
    } else if (type === "eXIf") {
      orientation = readOrientation(body);
    } else if (type === "IEND") {
      return { header: header!, palette, data, orientation };
    } else if (critical) {
      throw new FormatError(`PNG: unknown critical chunk ${printable(type)}`);
    }
    at = end + 4;
  }
}

function parseHeader(body: Uint8Array): Header {
  if (body.length !== 13) throw new FormatError(`PNG: IHDR has ${body.length} bytes, expected 13`);
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const width = view.getUint32(0);
  const height = view.getUint32(4);
  const [depth, colourType, compression, filter, interlace] = [...body.subarray(8)] as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (width === 0 || height === 0) throw new FormatError(`PNG: the image is empty (${width}x${height})`);
  const kind = colourTypes[colourType];
  if (!kind?.depths.includes(depth)) {
    throw new FormatError(`PNG: colour type ${colourType} with ${depth} bits does not exist`);
  }
  if (compression !== 0 || filter !== 0 || interlace > 1) {
    throw new FormatError(`PNG: unknown compression ${compression}, filter ${filter} or interlace method ${interlace}`);
  }
  return { width, height, depth, colourType, samples: kind.samples, interlaced: interlace === 1 };
}

async function inflate(data: Uint8Array[], needed: number): Promise<Uint8Array> {
  let raw: Uint8Array;
  try {
    raw = await source.inflate(data, needed + SURPLUS_BYTES);
  } catch (cause) {
    if (cause instanceof RangeError) throw new FormatError("PNG: far more image data than its size needs", { cause });
    throw new FormatError(`PNG: image data cannot be inflated (${(cause as Error).message})`, { cause });
  }
  if (raw.length < needed) {
    throw new FormatError(`PNG: truncated, ${raw.length} bytes of image data where its size needs ${needed}`);
  }
  return raw;
}

/** Undoes a row's filter in place. `stride`: bytes a pixel, at least 1. */
function unfilter(filter: number, row: Uint8Array, above: Uint8Array, stride: number): void {
  switch (filter) {
    case 0:
      break;
    case 1:
      for (let i = stride; i < row.length; i++) row[i] = row[i]! + row[i - stride]!;
      break;
    case 2:
      for (let i = 0; i < row.length; i++) row[i] = row[i]! + above[i]!;
      break;
    case 3:
      for (let i = 0; i < row.length; i++) {
        const left = i < stride ? 0 : row[i - stride]!;
        row[i] = row[i]! + ((left + above[i]!) >> 1);
      }
      break;
    case 4:
      for (let i = 0; i < row.length; i++) {
        const left = i < stride ? 0 : row[i - stride]!;
        const corner = i < stride ? 0 : above[i - stride]!;
        row[i] = row[i]! + paeth(left, above[i]!, corner);
      }
      break;
    default:
      throw new FormatError(`PNG: unknown row filter ${filter}, the image data is damaged`);
  }
}

function paeth(left: number, above: number, corner: number): number {
  const estimate = left + above - corner;
  const dLeft = Math.abs(estimate - left);
  const dAbove = Math.abs(estimate - above);
  const dCorner = Math.abs(estimate - corner);
  if (dLeft <= dAbove && dLeft <= dCorner) return left;
  return dAbove <= dCorner ? above : corner;
}

/** A row's samples as one byte each: grey below 8 bits spread over 0..255, palette indices as they are. */
function unpack(row: Uint8Array, { depth, colourType }: Header, samples: Uint8Array): void {
  if (depth === 8) {
    samples.set(row);
  } else if (depth === 16) {
    for (let i = 0; i < samples.length; i++) samples[i] = row[2 * i]!;
  } else {
    const mask = (1 << depth) - 1;
    const scale = colourType === PALETTE ? 1 : 255 / mask;
    for (let i = 0; i < samples.length; i++) {
      const bit = i * depth;
      samples[i] = ((row[bit >> 3]! >> (8 - depth - (bit & 7))) & mask) * scale;
    }
  }
}

/** How samples[at...] become pixel `index` of `out`. */
function pixelWriter(
  { colourType, samples: perPixel }: Header,
  palette: Uint8Array | undefined,
  out: Pixels,
): (samples: Uint8Array, at: number, index: number) => void {
  const { data, channels } = out;
  const storeGrey = (from: Uint8Array, at: number, index: number) => {
    for (let c = 0; c < channels; c++) data[channels * index + c] = from[at]!;
  };
  const storeColour = (from: Uint8Array, at: number, index: number) => {
    const r = from[at]!;
    const g = from[at + 1]!;
    const b = from[at + 2]!;
    if (channels === 1) {
      data[index] = luma(r, g, b);
    } else {
      data[3 * index] = r;
      data[3 * index + 1] = g;
      data[3 * index + 2] = b;
    }
  };
  if (colourType === PALETTE) {
    if (palette === undefined) throw new FormatError("PNG: palette image without a PLTE chunk");
    const entries = palette.length / 3;
    return (samples, at, index) => {
      const entry = samples[at]!;
      if (entry >= entries) throw new FormatError(`PNG: a pixel has colour ${entry} of a palette of ${entries}`);
      storeColour(palette, 3 * entry, index);
    };
  }
  return perPixel >= 3 ? storeColour : storeGrey;
}

/** A chunk type for a message, whatever bytes a damaged file has there. */
function printable(type: string): string {
  return JSON.stringify(type);
}
