import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { FormatError } from "../../src/errors.js";
import { decodeImage } from "../../src/image/decode-node.js";
import { luma } from "../../src/image/pixels.js";
import { Philox } from "../../src/random/philox.js";
import { pythonWith } from "../support/python.js";
import { askPillow, load, recordedCases } from "./pillow.js";
import { chunk, header, type PngSpec, rawRows, SIGNATURE, samplesPerPixel, writePng } from "./png-writer.js";

const kinds = (
  [
    [0, [1, 2, 4, 8, 16]],
    [2, [8, 16]],
    [3, [1, 2, 4, 8]],
    [4, [8, 16]],
    [6, [8, 16]],
  ] as const
).flatMap(([colourType, depths]) => depths.map((depth) => ({ colourType, depth })));

function randomPng(spec: PngSpec, random: Philox) {
  const count = spec.height * spec.width * samplesPerPixel[spec.colourType];
  const samples = Array.from({ length: count }, () => random.int(2 ** spec.depth));
  const palette =
    spec.colourType === 3 ? Uint8Array.from({ length: 3 * 2 ** spec.depth }, () => random.int(256)) : undefined;
  return { samples, palette, bytes: writePng({ ...spec, palette }, samples) };
}

/** What the standard says an image's colours are, at 8 bits, without alpha. */
function expectedRgb({ colourType, depth }: PngSpec, samples: number[], palette?: Uint8Array): number[] {
  const n = samplesPerPixel[colourType];
  const byte = (v: number) => (depth === 16 ? v >> 8 : (v * 255) / (2 ** depth - 1));
  const rgb: number[] = [];
  for (let i = 0; i < samples.length; i += n) {
    if (palette) rgb.push(...palette.subarray(3 * samples[i]!, 3 * samples[i]! + 3));
    else if (n < 3) rgb.push(byte(samples[i]!), byte(samples[i]!), byte(samples[i]!));
    else rgb.push(byte(samples[i]!), byte(samples[i + 1]!), byte(samples[i + 2]!));
  }
  return rgb;
}

const rejects = (bytes: Uint8Array, message: RegExp, maxPixels?: number) =>
  assert.rejects(decodeImage(bytes, { channels: 3, maxPixels }), (error) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.match(error.message, message);
    return true;
  });

describe("PNG", () => {
  const random = new Philox(2, "png");
  for (const kind of kinds) {
    for (const interlaced of [false, true]) {
      it(`colour type ${kind.colourType}, ${kind.depth} bits${interlaced ? ", interlaced" : ""}: right colours`, async () => {
        for (const [height, width] of [
          [1, 1],
          [2, 3],
          [5, 1],
          [9, 13],
          [17, 10],
        ] as const) {
          const spec: PngSpec = { ...kind, height, width, interlaced };
          const { samples, palette, bytes } = randomPng(spec, random);
          const rgb = expectedRgb(spec, samples, palette);
          const colour = await decodeImage(bytes, { channels: 3 });
          assert.deepEqual([colour.height, colour.width, colour.channels], [height, width, 3]);
          assert.deepEqual([...colour.data], rgb);
          const grey = await decodeImage(bytes, { channels: 1 });
          assert.equal(grey.channels, 1);
          assert.deepEqual(
            [...grey.data],
            Array.from(grey.data, (_, i) => luma(rgb[3 * i]!, rgb[3 * i + 1]!, rgb[3 * i + 2]!)),
          );
        }
      });
    }
  }

  const python = pythonWith("PIL");
  it("every kind agrees with the Pillow installed here", {
    skip: python === null && "no python3 with Pillow here",
  }, async () => {
    const cases = kinds
      .filter(({ colourType, depth }) => !(colourType === 0 && depth === 16)) // Pillow clips these, see png-node.ts
      .flatMap((kind) =>
        ([1, 3] as const).map((channels) => {
          const { bytes } = randomPng({ ...kind, height: 11, width: 14, interlaced: random.int(2) === 1 }, random);
          return { op: "decode", args: [channels], bytes: Buffer.from(bytes).toString("base64") };
        }),
      );
    for (const { args, bytes, result } of askPillow(python!, cases)) {
      const got = await decodeImage(Buffer.from(bytes!, "base64"), { channels: args[0] });
      assert.deepEqual(got, load(result!));
    }
  });

  const spec: PngSpec = { colourType: 2, depth: 8, height: 6, width: 7 };
  const { bytes: good, samples } = randomPng(spec, random);
  const rebuild = (...middle: Uint8Array[]) => Buffer.concat([SIGNATURE, header(spec), ...middle]);
  const end = chunk("IEND", new Uint8Array());
  const image = chunk("IDAT", deflateSync(rawRows(spec, samples)));

  it("a view into a larger buffer decodes as the bytes alone", async () => {
    const padded = Buffer.concat([Buffer.alloc(5), good, Buffer.alloc(3)]);
    assert.deepEqual([...(await decodeImage(padded.subarray(5, 5 + good.length), { channels: 3 })).data], samples);
  });

  it("transparency, colour profile and text are ignored, even broken ones", async () => {
    const extra = ["tRNS", "iCCP", "tEXt", "acTL"].map((type) => chunk(type, Buffer.from("nonsense")));
    assert.deepEqual([...(await decodeImage(rebuild(...extra, image, end), { channels: 3 })).data], samples);
  });

  it("a little surplus image data is ignored, a decompression bomb refused", async () => {
    const surplus = (bytes: number) =>
      rebuild(chunk("IDAT", deflateSync(Buffer.concat([rawRows(spec, samples), Buffer.alloc(bytes)]))), end);
    assert.deepEqual([...(await decodeImage(surplus(100), { channels: 3 })).data], samples);
    await rejects(surplus(5_000_000), /far more image data/);
  });

  it("too many pixels are refused by the header alone", async () => {
    await rejects(
      Buffer.concat([SIGNATURE, header({ ...spec, height: 30_000, width: 30_000 })]),
      /30000x30000 .* limit of 25000000/,
    );
    await rejects(good, /limit of 41$/, 41);
    await decodeImage(good, { channels: 3, maxPixels: 42 });
  });

  it("cut off anywhere, it is refused as truncated", async () => {
    for (let length = 8; length < good.length; length++) await rejects(good.subarray(0, length), /truncated/);
  });

  it("damage is named", async () => {
    const flipped = Buffer.from(good);
    flipped[60]! ^= 1;
    await rejects(flipped, /checksum of the "IDAT" chunk/);
    await rejects(rebuild(chunk("IDAT", Buffer.from("no zlib")), end), /cannot be inflated/);
    await rejects(rebuild(end), /cannot be inflated/);
    await rejects(rebuild(chunk("IDAT", deflateSync(Buffer.alloc(9))), end), /truncated, 9 bytes .* needs 132/);
    await rejects(rebuild(chunk("IDAT", deflateSync(Buffer.alloc(132, 9))), end), /unknown row filter 9/);
    await rejects(rebuild(chunk("NEWS", Buffer.of(1)), image, end), /unknown critical chunk "NEWS"/);
    await rejects(Buffer.concat([SIGNATURE, image, end]), /first chunk is not IHDR/);
    await rejects(Buffer.concat([SIGNATURE, header({ ...spec, width: 0 }), image, end]), /image is empty/);
    await rejects(Buffer.concat([SIGNATURE, header({ ...spec, depth: 4 }), image, end]), /colour type 2 with 4 bits/);
    const indexed: PngSpec = { colourType: 3, depth: 8, height: 1, width: 1 };
    await rejects(writePng(indexed, [0]), /without a PLTE/);
    await rejects(writePng({ ...indexed, palette: new Uint8Array(6) }, [2]), /colour 2 of a palette of 2/);
  });
});

describe("JPEG", () => {
  const all = recordedCases()
    .filter((one) => one.op === "decode" && one.args[0] === 3)
    .map((one) => ({ bytes: new Uint8Array(Buffer.from(one.bytes!, "base64")), result: load(one.result!) }))
    .filter(({ bytes }) => bytes[0] === 0xff);
  const [plain, progressive] = all as [(typeof all)[0], (typeof all)[0]];

  it("decodes the same again, in parallel, and after broken images", async () => {
    const decode = () => decodeImage(plain.bytes, { channels: 3 });
    const broken = plain.bytes.slice();
    broken.fill(0, 30, 60); // in a quantisation table or Huffman table: libjpeg gives up
    const results = await Promise.allSettled([
      decode(),
      decodeImage(broken, { channels: 3 }),
      decode(),
      decodeImage(broken.subarray(0, 200), { channels: 3 }),
      decode(),
    ]);
    for (const i of [0, 2, 4]) {
      assert.deepEqual(results[i], { status: "fulfilled", value: plain.result });
    }
    assert.deepEqual(await decode(), plain.result);
  });

  it("cut off anywhere, it is refused as truncated", async () => {
    for (const { bytes } of [plain, progressive]) {
      for (let length = 3; length < bytes.length; length++) await rejects(bytes.subarray(0, length), /truncated/);
    }
  });

  it("image data that ends too early is refused, though the file has an end marker", async () => {
    const { bytes } = plain;
    const short = Buffer.concat([bytes.subarray(0, bytes.length - 60), Uint8Array.of(0xff, 0xd9)]);
    await rejects(short, /premature end of data segment/);
  });

  it("stray bytes between segments, which lose nothing, are accepted", async () => {
    const { bytes, result } = plain;
    const stray = Buffer.concat([bytes.subarray(0, bytes.length - 2), Buffer.alloc(7), bytes.subarray(-2)]);
    assert.deepEqual(await decodeImage(stray, { channels: 3 }), result);
  });

  it("too many pixels, CMYK, emptiness are refused by the header", async () => {
    const frame = plain.bytes.findIndex((v, i, a) => v === 0xff && a[i + 1] === 0xc0);
    const patched = (at: number, ...values: number[]) => {
      const bytes = plain.bytes.slice();
      bytes.set(values, frame + at);
      return bytes;
    };
    await rejects(patched(5, 0xff, 0xff, 0xff, 0xff), /65535x65535 .* limit/);
    await rejects(patched(9, 4), /CMYK .* convert the image to RGB/);
    await rejects(patched(5, 0, 0), /image is empty/);
    await rejects(patched(1, 0xc3), /Unsupported JPEG process/);
    await rejects(Uint8Array.of(0xff, 0xd8, 0xff, 0xd9), /truncated|no image/);
    await rejects(Uint8Array.of(0xff, 0xd8, 0xff, 0xd9, 0, 0, 0, 0), /no image/);
  });
});

describe("any bytes", () => {
  it("other formats are refused with what they start with", async () => {
    await rejects(new Uint8Array(), /file is empty/);
    await rejects(Buffer.from("GIF89a"), /expected a PNG or JPEG file, got one that starts with 47 49 46 38/);
  });

  it("mutated files decode or reject with FormatError, never anything else", async () => {
    const seeds = recordedCases()
      .filter((one) => one.op === "decode" && one.args[0] === 3)
      .map((one) => Buffer.from(one.bytes!, "base64"));
    const edit = fc.tuple(fc.nat(), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.array(edit, { maxLength: 4 }),
        fc.nat(),
        async (seed, edits, cut) => {
          const bytes = new Uint8Array(seed);
          for (const [at, value] of edits) bytes[at % bytes.length] = value;
          const part = cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes;
          try {
            const { data, height, width } = await decodeImage(part, { channels: 3, maxPixels: 1_000_000 });
            assert.equal(data.length, height * width * 3);
          } catch (error) {
            assert.ok(error instanceof FormatError, `${(error as Error).stack}`);
          }
        },
      ),
      { numRuns: 500, seed: 1 },
    );
  });
});
