/** The parity data's number formula and learning rates. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { learningRate } from "../../src/train/schedule.js";
import { fnv1a, images, mix, readJson, signed, uniform } from "../support/parity.js";

interface Vectors {
  fnv1a: Record<string, number>;
  mix: Record<string, number>;
  signed: { name: string; seed: number; first8: number[]; at_100000: number }[];
  uniform: { name: string; seed: number; scale: number; shift: number; first8: number[] }[];
  image: {
    seed: number;
    batch: number;
    channels: number;
    size: number;
    cell: number;
    first8: number[];
    last8: number[];
    sum: number;
  };
}

interface StageSchedule {
  base: number;
  epochs: number;
  warmup_epochs: number;
  warmup_lr?: number;
  min_lr: number;
  lr: number[];
}

describe("the number formula", () => {
  const want = readJson<Vectors>("rng.json");

  it("hashes names and mixes words", () => {
    for (const [text, hash] of Object.entries(want.fnv1a)) assert.equal(fnv1a(text), hash);
    for (const [x, y] of Object.entries(want.mix)) assert.equal(mix(Number(x)), y);
  });

  it("gives the same numbers for a name and a seed", () => {
    for (const { name, seed, first8, at_100000 } of want.signed) {
      assert.deepEqual([...signed(name, seed, 8)], first8);
      assert.equal(signed(name, seed, 1, 100_000)[0], at_100000);
    }
    for (const { name, seed, scale, shift, first8 } of want.uniform) {
      assert.deepEqual([...uniform(name, seed, 8, scale, shift)], first8);
    }
  });

  it("draws the same images", () => {
    const { seed, batch, channels, size, cell, first8, last8, sum } = want.image;
    const { data } = images(seed, batch, channels, size, cell);
    assert.deepEqual([...data.subarray(0, 8)], first8);
    assert.deepEqual([...data.subarray(-8)], last8);
    assert.ok(Math.abs(data.reduce((a, b) => a + b, 0) - sum) < 1e-9);
  });
});

describe("the learning rate", () => {
  const stages = readJson<Record<"stage1" | "stage2", StageSchedule>>("schedule.json");
  for (const stage of ["stage1", "stage2"] as const) {
    it(`of ${stage} is the published one in every epoch, cool-down included`, () => {
      const { base, warmup_lr = base, lr, ...schedule } = (stages as Record<string, StageSchedule>)[stage]!;
      lr.forEach((want, epoch) => {
        const got = learningRate({ ...schedule, lr: base, warmup_lr }, epoch);
        assert.ok(Math.abs(got - want) <= 1e-15, `epoch ${epoch}: ${got} instead of ${want}`);
      });
    });
  }
});
