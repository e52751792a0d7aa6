import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Philox } from "../../src/random/philox.js";
import { pythonWith } from "../support/python.js";
import { testImage } from "./images.js";
import { askPillow, type Case, load, recordedCases, solve, store } from "./pillow.js";

async function assertEqualToPillow(cases: Case[]): Promise<void> {
  for (const one of cases) {
    const got = await solve(one);
    const want = load(one.result!);
    const what = `${one.op}(${JSON.stringify(one.args)}) of ${one.image?.height}x${one.image?.width}x${one.image?.channels}`;
    assert.deepEqual([got.height, got.width, got.channels], [want.height, want.width, want.channels], what);
    const differs = got.data.findIndex((v, i) => v !== want.data[i]);
    assert.equal(differs, -1, `${what}: byte ${differs} is ${got.data[differs]}, Pillow has ${want.data[differs]}`);
  }
}

describe("bit-equality with Pillow", () => {
  const recorded = recordedCases();
  for (const op of new Set(recorded.map((one) => one.op))) {
    it(`${op} gives Pillow's recorded bytes`, () => assertEqualToPillow(recorded.filter((one) => one.op === op)));
  }

  const python = pythonWith("PIL");
  const skip = python === null && "no python3 with Pillow here";
  const random = new Philox(1, "pillow");
  const side = () => 1 + random.int(40);
  const channels = () => (random.int(2) === 0 ? 1 : 3);
  const filter = () => (random.int(2) === 0 ? "bilinear" : "bicubic");
  const fill = (n: number) => Array.from({ length: n }, () => random.int(256));
  const makeCases = (count: number, op: string, args: (channels: number) => Case["args"], big = 0): Case[] =>
    Array.from({ length: count }, () => {
      const image = testImage(big + side(), big + side(), channels(), random);
      return { op, args: args(image.channels), image: store(image) };
    });
  const live: Record<string, () => Case[]> = {
    resize: () => makeCases(200, "resize", () => [side(), side(), filter()]),
    "resize by large factors": () =>
      makeCases(10, "resize", () => [1 + random.int(9), 1 + random.int(300), filter()], 250),
    "cover and crop": () =>
      makeCases(200, "cover_crop", () => [8 + random.int(30), [1, 0.95, 0.875][random.int(3)], filter()], 8),
    affine: () =>
      makeCases(150, "affine", (n) => [fill(6).map((v, i) => (v - 128) / (i % 3 === 2 ? 10 : 90)), filter(), fill(n)]),
    rotate: () => makeCases(100, "rotate", (n) => [random.uniform(-30, 30), filter(), fill(n)]),
    "right angles": () => [0, 90, 180, 270].flatMap((turn) => makeCases(4, "rotate", (n) => [turn, filter(), fill(n)])),
    "contrast and histograms": () =>
      ["autocontrast", "equalize", "invert"].flatMap((op) => makeCases(60, op, () => [])),
    enhancement: () =>
      ["brightness", "contrast", "color", "sharpness"].flatMap((op) =>
        makeCases(60, op, () => [random.uniform(0, 2.5)]),
      ),
    "bits and thresholds": () => [
      ...makeCases(20, "posterize", () => [random.int(8)]),
      ...makeCases(20, "solarize", () => [random.int(257)]),
      ...makeCases(20, "solarize_add", () => [random.int(128)]),
    ],
  };
  for (const [name, cases] of Object.entries(live)) {
    it(`${name}: random cases agree with the Pillow installed here`, { skip }, () =>
      assertEqualToPillow(askPillow(python!, cases())),
    );
  }
});
