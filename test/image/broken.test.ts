/** Files that are no image we read: each is refused by name, and none takes memory. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { constants, deflateRawSync, deflateSync } from "node:zlib";
import { FormatError } from "../../src/errors.js";
import { decodeImage } from "../../src/image/decode.js";
import { jpeg } from "../data/support.js";
import { chunk, header, type PngSpec, SIGNATURE, writePng } from "./png-writer.js";

const spec: PngSpec = { colourType: 2, depth: 8, height: 6, width: 7 };
const indexed: PngSpec = { colourType: 3, depth: 8, height: 1, width: 1 };
const pixels = chunk("IDAT", deflateSync(Buffer.alloc(132)));
const end = chunk("IEND", new Uint8Array());
const pngOf = (change: Partial<PngSpec>, ...chunks: Uint8Array[]) =>
  Buffer.concat([SIGNATURE, header({ ...spec, ...change }), ...chunks]);
const goodPng = pngOf({}, pixels, end);

/** A zlib stream of so many MiB of zeros, without ever holding them. */
function zeros(mebibytes: number): Uint8Array {
  const piece = deflateRawSync(Buffer.alloc(2 ** 20), { finishFlush: constants.Z_FULL_FLUSH });
  return Buffer.concat([Buffer.of(0x78, 0x9c), ...new Array<Uint8Array>(mebibytes).fill(piece)]);
}

const flip = (bytes: Uint8Array, at: number) => bytes.with(at, bytes[at]! ^ 1);
const text = (start: string) => Buffer.from(start.padEnd(40, "."), "latin1");

const goodJpeg = await jpeg(1, 64, 96, { baseline: true, progressive: false });
/** Where a marker is. */
const marker = (code: number) => goodJpeg.findIndex((v, i, all) => v === 0xff && all[i + 1] === code);
/** Changes bytes from `offset` behind the marker on. */
function patched(code: number, offset: number, ...values: number[]): Uint8Array {
  const bytes = goodJpeg.slice();
  bytes.set(values, marker(code) + offset);
  return bytes;
}
const SOF = 0xc0;
const DHT = 0xc4;
const SOS = 0xda;

const broken: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["no bytes", new Uint8Array(), /the file is empty/],
  ["unknown bytes", text("\x01\x02\xab\xcd"), /expected a PNG or JPEG file, got one that starts with 01 02 ab cd/],
  ["GIF, animated or not", text("GIF89a"), /GIF is not supported: convert the file to PNG or JPEG first/],
  ["WebP", text("RIFF\x10\0\0\0WEBPVP8 "), /WebP is not/],
  ["BMP", text("BM"), /BMP is not/],
  ["TIFF, little-endian", text("II*\0"), /TIFF is not/],
  ["TIFF, big-endian", text("MM\0*"), /TIFF is not/],
  ["AVIF", text("\0\0\0\x1cftypavif"), /AVIF is not/],
  ["HEIC", text("\0\0\0\x18ftypheic"), /HEIC is not/],
  ["SVG", text("<svg xmlns="), /SVG is not/],

  ["PNG: signature alone", SIGNATURE, /truncated, the file ends before its IEND/],
  ["PNG: header alone", pngOf({}), /truncated, the file ends before its IEND/],
  ["PNG: cut in the image data", goodPng.subarray(0, 50), /truncated inside its "IDAT"/],
  ["PNG: no end", pngOf({}, pixels), /truncated, the file ends before its IEND/],
  ["PNG: no image data", pngOf({}, end), /cannot be inflated/],
  ["PNG: image data before the header", Buffer.concat([SIGNATURE, pixels, end]), /first chunk is not IHDR/],
  ["PNG: no pixels", pngOf({ width: 0 }, pixels, end), /image is empty \(0x6\)/],
  ["PNG: bit flipped", flip(goodPng, 45), /checksum of the "IDAT" chunk at byte 33 is wrong/],
  ["PNG: not deflated", pngOf({}, chunk("IDAT", Buffer.from("no zlib")), end), /cannot be inflated \(incorrect header/],
  [
    "PNG: too few bytes",
    pngOf({}, chunk("IDAT", deflateSync(Buffer.alloc(9))), end),
    /truncated, 9 bytes .* needs 132/,
  ],
  ["PNG: unknown filter", pngOf({}, chunk("IDAT", deflateSync(Buffer.alloc(132, 9))), end), /row filter 9/],
  ["PNG: unknown critical chunk", pngOf({}, chunk("NEWS", Buffer.of(1)), pixels, end), /critical chunk "NEWS"/],
  ["PNG: impossible depth", pngOf({ depth: 4 }, pixels, end), /colour type 2 with 4 bits/],
  ["PNG: no palette", writePng(indexed, [0]), /without a PLTE/],
  ["PNG: colour beyond the palette", writePng({ ...indexed, palette: new Uint8Array(6) }, [2]), /colour 2 of .* of 2/],
  ["PNG: a palette cut short", writePng({ ...indexed, palette: new Uint8Array(4) }, [0]), /palette of 4 bytes/],
  ["PNG: 30000 x 30000", pngOf({ height: 3e4, width: 3e4 }, chunk("IDAT", zeros(2)), end), /30000x30000 .* limit/],
  ["PNG: largest sides", pngOf({ height: 2 ** 31 - 1, width: 2 ** 31 - 1 }, pixels, end), /2147483647x21.* limit/],
  ["PNG: 1 GiB in 1 MB", pngOf({}, chunk("IDAT", zeros(1024)), end), /far more image data than its size needs/],
  ["PNG: as many in a text chunk", pngOf({}, chunk("zTXt", zeros(1024))), /truncated/],

  [
    "JPEG: scan upon scan",
    Buffer.concat([goodJpeg.subarray(0, -2), ...Array(100).fill(Buffer.of(0xff, SOS, 0, 2)), Buffer.of(0xff, 0xd9)]),
    /JPEG: more than 100 scans/,
  ],
  ["JPEG: start alone", goodJpeg.subarray(0, 3), /truncated, the file ends inside its header/],
  ["JPEG: start and end", Uint8Array.of(0xff, 0xd8, 0xff, 0xd9, 0, 0, 0, 0), /holds no image, only a header/],
  ["JPEG: cut in the header", goodJpeg.subarray(0, marker(DHT) + 8), /truncated, the file ends inside its header/],
  ["JPEG: cut in the image data", goodJpeg.subarray(0, -30), /truncated, .* without an end-of-image marker/],
  ["JPEG: data end early", Buffer.concat([goodJpeg.subarray(0, -60), goodJpeg.subarray(-2)]), /premature end of data/],
  ["JPEG: bad Huffman table", patched(DHT, 4, 0xff), /^JPEG: Bogus/],
  ["JPEG: no frame header", patched(SOF, 1, 0xe2), /image data without a frame header/],
  ["JPEG: no pixels", patched(SOF, 5, 0, 0), /image is empty/],
  ["JPEG: 65535 x 65535", patched(SOF, 5, 0xff, 0xff, 0xff, 0xff), /65535x65535 .* limit/],
  ["JPEG: CMYK", patched(SOF, 9, 4), /CMYK \(4 components\) is not supported.*convert the image to RGB/],
  ["JPEG: two components", patched(SOF, 9, 2), /2 components is not supported.*convert the image to RGB/],
  ["JPEG: lossless", patched(SOF, 1, 0xc3), /Unsupported JPEG process/],
  ["JPEG: 12 bits", patched(SOF, 4, 12), /Unsupported JPEG data precision 12/],
  ["JPEG: scan of no component", patched(SOS, 4, 0), /^JPEG: /],
];

/** Rejects, and returns by how many MiB the process's largest size ever grew. */
async function refused(bytes: Uint8Array, message: RegExp): Promise<number> {
  const before = process.resourceUsage().maxRSS;
  await assert.rejects(decodeImage(bytes, { channels: 3 }), (error) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.match(error.message, message);
    return true;
  });
  return (process.resourceUsage().maxRSS - before) / 1024;
}

describe("refused, within 16 MiB of memory", () => {
  before(async () => {
    for (const good of [goodPng, goodJpeg]) await decodeImage(good, { channels: 3 });
  });

  for (const [name, bytes, message] of broken) {
    it(name, async () => {
      const grown = await refused(bytes, message);
      assert.ok(grown < 16, `${grown} MiB`);
    });
  }

  it("all but the largest image allowed, which takes its pixels a few times", async (t) => {
    const grown = await refused(patched(SOF, 5, 0x13, 0x88, 0x13, 0x88), /premature end of data/); // 5000 x 5000
    t.diagnostic(`25 million pixels of JPEG: ${grown.toFixed(0)} MiB`);
    assert.ok(grown < 512, `${grown} MiB`);
  });
});
