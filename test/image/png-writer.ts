/** Writes PNG files of every kind for tests, a row filter of its own for each row. Not for use outside of them. */
import { deflateSync } from "node:zlib";
import { crc32 } from "../../src/io/crc32.js";

export interface PngSpec {
  height: number;
  width: number;
  colourType: 0 | 2 | 3 | 4 | 6;
  depth: 1 | 2 | 4 | 8 | 16;
  interlaced?: boolean;
  /** PLTE, 3 bytes a colour. */
  palette?: Uint8Array;
  /** Further chunks in front of the image data. */
  extra?: Uint8Array[];
}

export const samplesPerPixel = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

export function chunk(type: string, body: Uint8Array): Uint8Array {
  const out = Buffer.alloc(12 + body.length);
  out.writeUInt32BE(body.length, 0);
  out.write(type, 4, "latin1");
  out.set(body, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + body.length)), 8 + body.length);
  return out;
}

export const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

export function header({ width, height, depth, colourType, interlaced }: PngSpec): Uint8Array {
  const body = Buffer.alloc(13);
  body.writeUInt32BE(width, 0);
  body.writeUInt32BE(height, 4);
  body.set([depth, colourType, 0, 0, interlaced ? 1 : 0], 8);
  return chunk("IHDR", body);
}

/** `samples`: height * width * samplesPerPixel values of `depth` bits. */
export function writePng(spec: PngSpec, samples: ArrayLike<number>): Uint8Array {
  const data = deflateSync(rawRows(spec, samples));
  const half = data.length >> 1; // in two pieces: readers must join them
  return Buffer.concat([
    SIGNATURE,
    header(spec),
    ...(spec.palette ? [chunk("PLTE", spec.palette)] : []),
    ...(spec.extra ?? []),
    chunk("IDAT", data.subarray(0, half)),
    chunk("IDAT", data.subarray(half)),
    chunk("IEND", new Uint8Array()),
  ]);
}

/** The image data before compression: filtered rows, pass by pass. */
export function rawRows(
  { height, width, colourType, depth, interlaced }: PngSpec,
  samples: ArrayLike<number>,
): Uint8Array {
  const n = samplesPerPixel[colourType];
  const stride = Math.ceil((n * depth) / 8);
  const passes = interlaced ? ["00", "40", "04", "20", "02", "10", "01"] : ["00"];
  const steps = interlaced ? ["88", "88", "48", "44", "24", "22", "12"] : ["11"];
  const rows: Buffer[] = [];
  passes.forEach((origin, pass) => {
    const [x0, y0, dx, dy] = [...origin, ...steps[pass]!].map(Number) as [number, number, number, number];
    if (x0 >= width) return;
    let above: Buffer | undefined;
    for (let y = y0; y < height; y += dy) {
      const values: number[] = [];
      for (let x = x0; x < width; x += dx) {
        for (let k = 0; k < n; k++) values.push(samples[(y * width + x) * n + k]!);
      }
      const row = pack(values, depth);
      const filter = rows.length % 5;
      const filtered = row.map((v, i) => {
        const left = row[i - stride] ?? 0;
        const up = above?.[i] ?? 0;
        const corner = i < stride ? 0 : (above?.[i - stride] ?? 0);
        const nearest = [left, up, corner].reduce((best, candidate) => {
          const distance = (value: number) => Math.abs(left + up - corner - value);
          return distance(candidate) < distance(best) ? candidate : best;
        });
        return v - [0, left, up, (left + up) >> 1, nearest][filter]!;
      });
      rows.push(Buffer.concat([Buffer.of(filter), filtered]));
      above = row;
    }
  });
  return Buffer.concat(rows);
}

function pack(values: number[], depth: number): Buffer {
  const row = Buffer.alloc(Math.ceil((values.length * depth) / 8));
  values.forEach((value, i) => {
    if (depth === 16) row.writeUInt16BE(value, 2 * i);
    else row[(i * depth) >> 3]! |= value << (8 - depth - ((i * depth) & 7));
  });
  return row;
}
