/** Pillow as the oracle of the image tests: recorded answers (test/fixtures/image), and a live one where it is installed. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rotate as affineRotate, affine } from "../../src/data/augment/affine.js";
import { brightness, color, contrast, sharpness } from "../../src/data/augment/enhance.js";
import { autoContrast, equalize, invert, posterize, solarize, solarizeAdd } from "../../src/data/augment/tone.js";
import { decodeImage } from "../../src/image/decode-node.js";
import { centreCrop, type Pixels, toChannels } from "../../src/image/pixels.js";
import { type Interpolation, resize, resizeToCover } from "../../src/image/resize.js";

interface StoredImage {
  height: number;
  width: number;
  channels: 1 | 3;
  data: string;
}

export interface Case {
  op: string;
  // biome-ignore lint/suspicious/noExplicitAny: each operation has its own, as JSON
  args: any[];
  image?: StoredImage;
  bytes?: string;
  result?: StoredImage;
}

const fixtures = new URL("../../../test/fixtures/image/", import.meta.url);

export const store = (pixels: Pixels): StoredImage => ({
  ...pixels,
  data: Buffer.from(pixels.data).toString("base64"),
});
export const load = (image: StoredImage): Pixels => ({
  ...image,
  data: new Uint8Array(Buffer.from(image.data, "base64")),
});

export function recordedCases(): Case[] {
  return JSON.parse(readFileSync(new URL("pillow.json", fixtures), "utf8")).cases;
}

/** A Python that has Pillow; null: none here. */
export function findPillow(): string | null {
  const found = ["python3", "/usr/bin/python3"].find((python) => spawnSync(python, ["-c", "import PIL"]).status === 0);
  return found ?? null;
}

export function askPillow(python: string, cases: Case[]): Case[] {
  const script = fileURLToPath(new URL("pillow.py", fixtures));
  const input = JSON.stringify({ cases });
  const { status, stdout, stderr } = spawnSync(python, [script], { input, encoding: "utf8", maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout).cases;
}

const operations: Record<string, (pixels: Pixels, ...args: Case["args"]) => Pixels> = {
  resize,
  cover_crop: (pixels, size: number, cropPct: number, interpolation: Interpolation) => {
    if (pixels.height === size && pixels.width === size) return pixels;
    const scaled = Math.floor(size / cropPct);
    return centreCrop(resizeToCover(pixels, scaled, scaled, interpolation), size, size);
  },
  affine: (pixels, matrix, interpolation, fill) => affine(pixels, matrix, { interpolation, fill }),
  rotate: (pixels, degrees, interpolation, fill) => affineRotate(pixels, degrees, { interpolation, fill }),
  autocontrast: autoContrast,
  equalize,
  invert,
  posterize,
  solarize,
  solarize_add: solarizeAdd,
  brightness,
  contrast,
  color,
  sharpness,
  convert: toChannels,
};

/** Our answer to a case. */
export async function solve({ op, args, image, bytes }: Case): Promise<Pixels> {
  if (op === "decode") return decodeImage(Buffer.from(bytes!, "base64"), { channels: args[0] });
  return operations[op]!(load(image!), ...args);
}
