/** The eight EXIF orientations, in JPEG and PNG, in either byte order. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { openData } from "../../src/data/open-node.js";
import { decodeImage } from "../../src/image/decode.js";
import { readImage } from "../../src/image/input.js";
import { upright } from "../../src/image/orientation.js";
import { jpeg, temporaryFolder, writeTree } from "../data/support.js";
import { pythonWith } from "../support/python.js";
import { exif, withExif } from "./exif.js";
import { askPillow, load } from "./pillow.js";
import { chunk, writePng } from "./png-writer.js";

/** How a camera stores, by orientation, what upright is 123 over 456: rows from the top. */
const stored = ["123 456", "321 654", "654 321", "456 123", "14 25 36", "36 25 14", "63 52 41", "41 52 63"];

function greyPng(rows: string, block: Uint8Array): Uint8Array {
  const [first = "", ...rest] = rows.split(" ");
  const size = { height: 1 + rest.length, width: first.length };
  const samples = Array.from(rows.replaceAll(" ", ""), Number);
  return writePng({ ...size, colourType: 0, depth: 8, extra: [chunk("eXIf", block)] }, samples);
}

const wanted = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), height: 2, width: 3, channels: 1 };

describe("EXIF orientation", () => {
  for (const [i, rows] of stored.entries()) {
    it(`${i + 1}: a PNG stored as ${rows} is turned upright`, async () => {
      for (const little of [true, false]) {
        assert.deepEqual(await decodeImage(greyPng(rows, exif(i + 1, little)), { channels: 1 }), wanted);
      }
    });
  }

  it("a JPEG is turned as the PNG is", async () => {
    const file = await jpeg(3, 20, 33);
    for (const channels of [1, 3] as const) {
      const asStored = await decodeImage(file, { channels });
      for (let orientation = 1; orientation <= 8; orientation++) {
        for (const little of [true, false]) {
          const turned = await decodeImage(withExif(file, exif(orientation, little)), { channels });
          assert.deepEqual(turned, upright(asStored, orientation));
        }
      }
    }
  });

  const python = pythonWith("PIL");
  it("all eight agree with Pillow's exif_transpose", {
    skip: python === null && "no python3 with Pillow here",
  }, async () => {
    const file = await jpeg(4, 20, 33);
    const files = Array.from({ length: 16 }, (_, i) => withExif(file, exif((i >> 1) + 1, i % 2 === 0)));
    files.push(...stored.map((rows, i) => greyPng(rows, exif(i + 1, false))));
    const cases = files.map((bytes) => ({ op: "decode", args: [3], bytes: Buffer.from(bytes).toString("base64") }));
    for (const [i, { result }] of askPillow(python!, cases).entries()) {
      assert.deepEqual(await decodeImage(files[i]!, { channels: 3 }), load(result!), `file ${i}`);
    }
  });

  it("what is classified and what is trained on is upright", async () => {
    const bytes = greyPng(stored[5]!, exif(6, true));
    assert.deepEqual(await readImage(bytes, 1), wanted);
    const root = writeTree(temporaryFolder(), { "train/a/0.png": bytes, "val/a/0.png": bytes });
    assert.deepEqual(await (await openData(root, { channels: 1 })).train.pixels(0), wanted);
  });

  it("nonsense leaves the image as it lies", async () => {
    const sensible = exif(3, false);
    for (const block of [
      new Uint8Array(0),
      sensible.subarray(0, 7),
      sensible.subarray(0, 30),
      exif(0, false),
      exif(9, true),
      exif(3, false, { magic: 43 }),
      exif(3, false, { type: 2 }),
      exif(3, false, { directory: 37 }),
      exif(3, true, { directory: 0xfffffff0 }),
    ]) {
      assert.deepEqual(await decodeImage(greyPng("123 456", block), { channels: 1 }), wanted);
    }
  });
});
