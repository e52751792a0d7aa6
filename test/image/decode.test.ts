import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { FormatError } from "../../src/errors.js";
import { decodeImage } from "../../src/image/decode.js";
import { luma } from "../../src/image/pixels.js";
import { Philox } from "../../src/random/philox.js";
import { jpeg } from "../data/support.js";
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

const python = pythonWith("PIL");
const noPillow = python === null && "no python3 with Pillow here";

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

  it("every kind, transparent too, agrees with the Pillow installed here", { skip: noPillow }, async () => {
    /** Bytes of a tRNS chunk by colour type; those with alpha have none. */
    const transparency: Record<number, number> = { 0: 2, 2: 6, 3: 2 };
    const cases = kinds
      .filter(({ colourType, depth }) => !(colourType === 0 && depth === 16)) // Pillow clips these, see decode.ts
      .flatMap((kind) =>
        ([1, 3] as const).map((channels) => {
          const clear = transparency[kind.colourType];
          const extra = clear ? [chunk("tRNS", new Uint8Array(clear))] : [];
          const size = { height: 11, width: 14, interlaced: random.int(2) === 1 };
          const { bytes } = randomPng({ ...kind, ...size, extra }, random);
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

  it("a little surplus image data and bytes behind the end are ignored", async () => {
    const surplus = chunk("IDAT", deflateSync(Buffer.concat([rawRows(spec, samples), Buffer.alloc(100)])));
    const bytes = Buffer.concat([rebuild(surplus, end), Buffer.alloc(999, 7)]);
    assert.deepEqual([...(await decodeImage(bytes, { channels: 3 })).data], samples);
  });

  it("the limit of pixels can be set", async () => {
    await rejects(good, /limit of 41: scale/, 41);
    await decodeImage(good, { channels: 3, maxPixels: 42 });
  });

  it("cut off anywhere, it is refused as truncated", async () => {
    for (let length = 8; length < good.length; length++) await rejects(good.subarray(0, length), /truncated/);
  });

  it("an animation gives its default image, whatever its frames are", async () => {
    const control = (sequence: number) => {
      const body = Buffer.alloc(26);
      for (const [i, v] of [sequence, spec.width, spec.height].entries()) body.writeUInt32BE(v, 4 * i);
      return chunk("fcTL", body);
    };
    const frame = chunk("fdAT", Buffer.concat([Buffer.of(0, 0, 0, 2), deflateSync(Buffer.alloc(132))]));
    const bytes = rebuild(chunk("acTL", Buffer.of(0, 0, 0, 2, 0, 0, 0, 0)), control(0), image, control(1), frame, end);
    assert.deepEqual([...(await decodeImage(bytes, { channels: 3 })).data], samples);
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

  it("stray bytes that lose nothing are accepted: between segments, behind the end, a second image", async () => {
    const { bytes, result } = plain;
    const stray = Buffer.concat([bytes.subarray(0, bytes.length - 2), Buffer.alloc(7), bytes.subarray(-2)]);
    const tail = Buffer.concat([bytes, Buffer.alloc(999, 7)]);
    const film = Buffer.concat([bytes, ...Array(200).fill(Buffer.of(0xff, 0xda, 0, 2))]); // bytes of any kind
    const pair = Buffer.concat([bytes, progressive.bytes]);
    for (const file of [stray, tail, film, pair]) assert.deepEqual(await decodeImage(file, { channels: 3 }), result);
  });

  it("every kind agrees with the Pillow installed here", { skip: noPillow }, async () => {
    const kinds = {
      baseline: { baseline: true, progressive: false },
      progressive: {},
      "4:4:4": { auto_subsample: false, chroma_subsample: 1 },
      "4:2:0, quality 95": { auto_subsample: false, chroma_subsample: 2, quality: 95 },
      grey: { color_space: 1 },
      RGB: { color_space: 2 },
    };
    for (const [kind, options] of Object.entries(kinds)) {
      const bytes = await jpeg(5, 37, 51, options);
      for (const channels of [1, 3] as const) {
        const [answer] = askPillow(python!, [
          { op: "decode", args: [channels], bytes: Buffer.from(bytes).toString("base64") },
        ]);
        assert.deepEqual(await decodeImage(bytes, { channels }), load(answer!.result!), kind);
      }
    }
  });
});

describe("any bytes", () => {
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
