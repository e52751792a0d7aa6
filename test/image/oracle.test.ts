/**
 * From a file to the network's input, as torchvision and timm get there: 200 random images and, where they are at hand,
 * photos. Against the oracle (test/fixtures/image/preprocess.py) where it runs, against hashes of its answers everywhere.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { encode as encodePng } from "fast-png";
import { decodeImage } from "../../src/image/decode.js";
import { type Preprocessing, preprocess } from "../../src/image/preprocess.js";
import { Philox } from "../../src/random/philox.js";
import { temporaryFolder } from "../data/support.js";
import { pythonWith } from "../support/python.js";
import { testImage } from "./images.js";

interface Case extends Preprocessing {
  path: string;
  /** Cases of one group share a line of the printed table. */
  group: string;
}

const fixtures = new URL("../../../test/fixtures/image/", import.meta.url);
const stored: Record<"random" | "photos", string[]> = JSON.parse(
  readFileSync(new URL("preprocess.json", fixtures), "utf8"),
);

const imagenet = { channels: 3, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const mnist = { channels: 1, mean: [0.1307], std: [0.3081] };

function makeCase(path: string, look: typeof imagenet, size: number, cropPct: number, filter: string): Case {
  const interpolation = filter as Preprocessing["interpolation"];
  const group = `${look.channels === 3 ? "RGB" : "grey"}, ${filter}, crop ${cropPct}`;
  return { path, group, ...look, height: size, width: size, cropPct, interpolation };
}

/** 200 images with sides of 8 to 400 pixels, of any aspect, for networks of 28 to 224 pixels. */
function randomCases(): Case[] {
  const random = new Philox(8, "oracle");
  const folder = temporaryFolder();
  const pick = <T>(...values: T[]) => values[random.int(values.length)]!;
  const side = () => Math.round(8 * 50 ** random.float());
  return Array.from({ length: 200 }, (_, i) => {
    const look = pick(imagenet, imagenet, mnist);
    const { data, height, width, channels } = testImage(side(), side(), pick(1, 3), random);
    const path = join(folder, `${i}.png`);
    writeFileSync(path, encodePng({ data, height, width, channels, depth: 8 }));
    return makeCase(path, look, pick(28, 32, 64, 96, 160, 224), pick(1, 0.95, 0.9, 0.875), pick("bilinear", "bicubic"));
  });
}

const photos = resolve("../shared/data/imagenet-samples");

/** Every photo as torchvision's and timm's presets for ImageNet see it, and at one of timm's other shares. */
function photoCases(): Case[] {
  const names = readdirSync(photos).filter((name) => /\.jpe?g$/i.test(name));
  return names.sort().flatMap((name, i) => {
    const path = join(photos, name);
    const others = [0.9, 0.95, 1] as const;
    return [
      makeCase(path, imagenet, 224, 0.875, "bilinear"),
      makeCase(path, imagenet, 224, 0.875, "bicubic"),
      makeCase(path, imagenet, 224, others[i % 3]!, "bicubic"),
    ];
  });
}

async function ours({ path, ...preprocessing }: Case): Promise<Float32Array> {
  const pixels = await decodeImage(readFileSync(path), { channels: preprocessing.channels as 1 | 3 });
  return preprocess(pixels, preprocessing);
}

const hash = (values: Float32Array) =>
  createHash("sha256").update(new Uint8Array(values.buffer)).digest("hex").slice(0, 16);

async function checkHashes(cases: Case[], hashes: string[]): Promise<void> {
  assert.equal(hashes.length, cases.length);
  for (const [i, one] of cases.entries()) assert.equal(hash(await ours(one)), hashes[i], `${one.path}, ${one.group}`);
}

/** Prints the largest gap of each group in steps of 1/255 and fails where it is more than one. */
async function checkOracle(t: TestContext, python: string, cases: Case[]): Promise<void> {
  const script = fileURLToPath(new URL("preprocess.py", fixtures));
  const input = JSON.stringify(cases.map((one) => ({ ...one, size: one.height })));
  const { status, stdout, stderr } = spawnSync(python, [script], { input, maxBuffer: 2 ** 28 });
  assert.equal(status, 0, String(stderr));
  let at = stdout.indexOf("\n") + 1;
  const groups = new Map<string, { images: number; equal: number; gap: number }>();
  for (const one of cases) {
    const got = await ours(one);
    const want = new Float32Array(Uint8Array.from(stdout.subarray(at, at + got.byteLength)).buffer);
    at += got.byteLength;
    const steps = one.std.map((std) => std * 255);
    const gap = got.reduce((most, v, i) => Math.max(most, Math.abs(v - want[i]!) * steps[i % steps.length]!), 0);
    const line = groups.get(one.group) ?? { images: 0, equal: 0, gap: 0 };
    groups.set(one.group, {
      images: line.images + 1,
      equal: line.equal + Number(hash(got) === hash(want)),
      gap: Math.max(line.gap, gap),
    });
  }
  assert.equal(at, stdout.length);
  const lines = Array.from(groups, ([group, { images, equal, gap }]) => {
    return `${group.padEnd(32)} ${String(images).padStart(4)} images, ${equal} equal, largest gap ${gap.toFixed(6)} / 255`;
  });
  t.diagnostic([`against ${String(stdout.subarray(0, stdout.indexOf("\n")))}`, ...lines.sort()].join("\n"));
  for (const [group, { gap }] of groups) assert.ok(gap <= 1, `${group}: ${gap} / 255`);
}

const python = pythonWith("PIL");
const noOracle = python === null && "no python3 with Pillow here";

describe("from a file to the network's input", () => {
  const cases = randomCases();

  it("200 random sizes: the recorded hashes", () => checkHashes(cases, stored.random));
  it("200 random sizes: the oracle", { skip: noOracle }, (t) => checkOracle(t, python!, cases));
});

describe("photos", { skip: !existsSync(photos) && `${photos} is not here` }, () => {
  it("the recorded hashes", () => checkHashes(photoCases(), stored.photos));
  it("the oracle", { skip: noOracle }, (t) => checkOracle(t, python!, photoCases()));
});
