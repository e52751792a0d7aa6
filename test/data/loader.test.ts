import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Batch, BatchJob, BatchMaker, BatchResult } from "../../src/data/batch.js";
import { type Dataset, MemoryDataset, split, subset } from "../../src/data/dataset.js";
import { Loader, type LoaderOptions } from "../../src/data/loader.js";
import { openLoader } from "../../src/data/loader-node.js";
import { openData } from "../../src/data/open-node.js";
import { DataError, FormatError, UsageError } from "../../src/errors.js";
import type { Preprocessing } from "../../src/image/preprocess.js";
import { preprocess } from "../../src/image/preprocess.js";
import type { AugmentConfig } from "../../src/train/config.js";
import { imageTree, jpeg, pattern, png, tarOf, temporaryFolder, writeTree } from "./support.js";

const augment: AugmentConfig = {
  crop_pad: 1,
  scale: null,
  ratio: [3 / 4, 4 / 3],
  hflip: 0.5,
  color_jitter: 0,
  aa: null,
  reprob: 0.5,
};

const input = (side: number, channels: 1 | 3): Preprocessing => ({
  height: side,
  width: side,
  channels,
  mean: Array(channels).fill(0.5),
  std: Array(channels).fill(0.25),
  interpolation: "bilinear",
  cropPct: 1,
});

/** `length` grey images of 4×4, all of image `i` telling it apart; classes in turn. */
function memory(length: number, classes = 3): MemoryDataset {
  return new MemoryDataset({
    name: "toy",
    data: Uint8Array.from({ length: length * 16 }, (_, i) => pattern(i >> 4, i & 15)),
    height: 4,
    width: 4,
    channels: 1,
    labels: Int32Array.from({ length }, (_, i) => i % classes),
    classNames: Array.from({ length: classes }, (_, k) => String(k)),
  });
}

/** `memory`, but images in `bad` are broken. Not for worker threads. */
function withBroken(length: number, bad: number[]): Dataset {
  const base = memory(length);
  return {
    ...{ name: "toy", length, labels: base.labels, classNames: base.classNames, channels: 1, size: base.size },
    pixels(i) {
      if (bad.includes(i)) return Promise.reject(new FormatError(`image ${i}: is broken`));
      return base.pixels(i);
    },
    describe: (i) => `image ${i}`,
  };
}

const options: LoaderOptions = { batchSize: 4, input: input(4, 1), augment, seed: 3 };

async function collect(batches: AsyncIterable<Batch>): Promise<Batch[]> {
  const all: Batch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}

const hash = (batches: Batch[]) => {
  const sum = createHash("sha256");
  for (const { images, labels, indices } of batches) {
    for (const part of [images, labels, indices])
      sum.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  }
  return sum.digest("hex");
};

const indicesOf = (batches: Batch[]) => batches.flatMap(({ indices }) => [...indices]);

describe("training batches", () => {
  it("show every image once an epoch, in full batches, in an order of its own for each epoch and seed", async () => {
    const loader = new Loader(memory(22), options);
    assert.equal(loader.steps, 5);
    const first = await collect(loader.batches(0));
    assert.deepEqual(
      first.map(({ size, images, labels }) => [size, images.length, labels.length]),
      Array(5).fill([4, 64, 4]),
    );
    assert.equal(new Set(indicesOf(first)).size, 20);
    for (const { indices, labels } of first)
      assert.deepEqual(
        [...labels],
        [...indices].map((i) => i % 3),
      );
    assert.notDeepEqual(indicesOf(first), indicesOf(await collect(loader.batches(1))));
    const other = new Loader(memory(22), { ...options, seed: 4 });
    assert.notDeepEqual(indicesOf(first), indicesOf(await collect(other.batches(0))));
    assert.equal(hash(first), hash(await collect(loader.batches(0))));
  });

  it("leave other images out of the incomplete last batch in other epochs", async () => {
    const loader = new Loader(memory(7), options);
    const seen = new Set<number>();
    for (let epoch = 0; epoch < 20; epoch++)
      for (const i of indicesOf(await collect(loader.batches(epoch)))) seen.add(i);
    assert.equal(seen.size, 7);
  });

  it("resume at any step with the same bits, decoding nothing of what is skipped", async () => {
    const base = memory(20);
    const asked: number[] = [];
    const dataset: Dataset = {
      ...{ name: "toy", length: 20, labels: base.labels, classNames: base.classNames, channels: 1, size: base.size },
      pixels(i) {
        asked.push(i);
        return base.pixels(i);
      },
      describe: String,
    };
    const loader = new Loader(dataset, options);
    const whole = await collect(loader.batches(2));
    for (let from = 0; from <= 5; from++) {
      asked.length = 0;
      assert.equal(hash(await collect(loader.batches(2, { from }))), hash(whole.slice(from)));
      assert.equal(asked.length, 4 * (5 - from));
    }
  });

  it("are augmented by (seed, epoch, image), or only preprocessed when clean", async () => {
    const dataset = memory(8);
    const loader = new Loader(dataset, options);
    const clean = await collect(loader.batches(0, { clean: true }));
    const augmented = await collect(loader.batches(0));
    assert.deepEqual(indicesOf(clean), indicesOf(augmented));
    assert.notEqual(hash(clean), hash(augmented));
    assert.deepEqual(clean[1]!.images.slice(16, 32), preprocess(dataset.pixels(clean[1]!.indices[1]!), input(4, 1)));
    // the same image at another place of another batch size is augmented alike
    const pairs = await collect(new Loader(dataset, { ...options, batchSize: 8 }).batches(0));
    assert.deepEqual(pairs[0]!.images.slice(64), augmented[1]!.images);
  });

  it("turn grey images to colour and back for the model", async () => {
    const colour = await collect(new Loader(memory(4), { ...options, input: input(4, 3), augment: null }).batches(0));
    const grey = await collect(new Loader(memory(4), { ...options, augment: null }).batches(0));
    assert.equal(colour[0]!.images.length, 4 * 16 * 3);
    assert.deepEqual(
      colour[0]!.images.filter((_, i) => i % 3 === 1),
      grey[0]!.images,
    );
    const augmented = await collect(new Loader(memory(4), { ...options, input: input(4, 3) }).batches(0));
    assert.equal(augmented[0]!.images.length, 4 * 16 * 3);
  });

  it("refuse a dataset smaller than a batch, and a step that is not there", () => {
    assert.throws(() => new Loader(memory(3), options).batches(0), DataError);
    assert.throws(() => new Loader(memory(8), options).batches(0, { from: 3 }), UsageError);
    assert.throws(() => new Loader(memory(8), options).batches(0, { from: -1 }), UsageError);
    assert.throws(() => new Loader(memory(8), { ...options, batchSize: 0 }), UsageError);
    assert.throws(() => new Loader(memory(8), { ...options, maxBroken: 2 }), UsageError);
    assert.throws(() => new Loader(subset(memory(8), []), options), DataError);
  });
});

describe("batches in order", () => {
  it("show every image once, preprocessed, the last batch smaller", async () => {
    const dataset = memory(10);
    const batches = await collect(new Loader(dataset, options).inOrder());
    assert.deepEqual(
      batches.map(({ size }) => size),
      [4, 4, 2],
    );
    assert.deepEqual(indicesOf(batches), [...Array(10).keys()]);
    assert.deepEqual(batches[2]!.images.slice(16), preprocess(dataset.pixels(9), input(4, 1)));
  });
});

describe("broken images", () => {
  const lenient = { ...options, augment: null, maxBroken: 0.5 };

  it("are replaced in training by the next good image of the dataset, and named once", async () => {
    const warnings: string[] = [];
    const loader = new Loader(withBroken(8, [2, 3, 7]), { ...lenient, onWarning: (message) => warnings.push(message) });
    const whole = await collect(new Loader(memory(8), lenient).batches(0));
    const batches = await collect(loader.batches(0));
    const standIn = (i: number) => (i === 2 || i === 3 ? 4 : i === 7 ? 0 : i);
    assert.deepEqual(indicesOf(batches), indicesOf(whole).map(standIn));
    for (const { indices, labels } of batches)
      assert.deepEqual(
        [...labels],
        [...indices].map((i) => i % 3),
      );
    await collect(loader.batches(1));
    assert.deepEqual(
      warnings.sort(),
      [2, 3, 7].map((i) => `broken image: image ${i}: is broken`),
    );
  });

  it("do not change what a resumed epoch sees", async () => {
    const whole = await collect(new Loader(withBroken(16, [1, 9]), lenient).batches(4));
    const rest = await collect(new Loader(withBroken(16, [1, 9]), lenient).batches(4, { from: 2 }));
    assert.equal(hash(rest), hash(whole.slice(2)));
  });

  it("are left out of batches in order; a batch of nothing else is not given", async () => {
    const batches = await collect(new Loader(withBroken(12, [0, 4, 5, 6, 7, 11]), lenient).inOrder());
    assert.deepEqual(
      batches.map(({ indices }) => [...indices]),
      [
        [1, 2, 3],
        [8, 9, 10],
      ],
    );
    assert.equal(batches[0]!.images.length, 48);
  });

  it("stop with DataError as soon as they are more than the share allowed, naming the first", async () => {
    const run = (bad: number[], maxBroken: number) =>
      collect(new Loader(withBroken(12, bad), { ...lenient, maxBroken }).inOrder());
    await assert.rejects(run([1, 2, 3], 0.2), (error: Error) => {
      return (
        error instanceof DataError &&
        /3 of 12 images are broken.*0\.2[\s\S]*image 1: is broken\n {2}image 2/.test(error.message)
      );
    });
    assert.equal((await run([1, 2, 3], 0.25)).length, 3);
    await assert.rejects(run([5], 0), DataError);
  });

  it("end a pass, not hang it, where every image is broken", async () => {
    const all = [...Array(8).keys()];
    for (const maxBroken of [0, 0.5, 1]) {
      const loader = new Loader(withBroken(8, all), { ...lenient, maxBroken });
      await assert.rejects(collect(loader.batches(0)), DataError);
      await assert.rejects(collect(new Loader(withBroken(8, all), { ...lenient, maxBroken }).inOrder()), DataError);
    }
  });
});

describe("batches in hand", () => {
  /** Counts jobs that are asked for but whose batch was not yet taken. */
  function counting(): { maker: () => BatchMaker; jobs: BatchJob[] } {
    const jobs: BatchJob[] = [];
    const make = async (job: BatchJob): Promise<BatchResult> => {
      jobs.push(job);
      await sleep(1);
      const { indices } = job;
      return { batch: { images: new Float32Array(1), labels: indices, indices, size: indices.length }, broken: [] };
    };
    return { maker: () => ({ make, close: async () => {} }), jobs };
  }

  it("are never more than asked for, however slow the taker", async () => {
    for (const ahead of [1, 3]) {
      const { maker, jobs } = counting();
      let taken = 0;
      for await (const _ of new Loader(memory(40), options, maker, ahead).batches(0)) {
        await sleep(3);
        taken++;
        assert.ok(jobs.length <= taken + ahead - 1, `${jobs.length} asked for, ${taken} taken`);
      }
      assert.equal(jobs.length, 10);
    }
  });

  it("stop when the signal is aborted, before the first batch and while waiting for one", async () => {
    const gone = AbortSignal.abort(new Error("enough"));
    await assert.rejects(collect(new Loader(memory(8), options).batches(0, { signal: gone })), /enough/);
    await assert.rejects(collect(new Loader(memory(8), options).inOrder({ signal: gone })), /enough/);

    const never: BatchMaker = { make: () => new Promise(() => {}), close: async () => {} };
    const controller = new AbortController();
    const waiting = collect(new Loader(memory(8), options, () => never).batches(0, { signal: controller.signal }));
    setImmediate(() => controller.abort());
    await assert.rejects(waiting, { name: "AbortError" });
  });

  it("may fail unseen when a pass is left early", async () => {
    let count = 0;
    const failing: BatchMaker = {
      async make({ indices }) {
        if (count++ > 0) throw new Error("too late to matter");
        return { batch: { images: new Float32Array(1), labels: indices, indices, size: 4 }, broken: [] };
      },
      close: async () => {},
    };
    for await (const _ of new Loader(memory(16), options, () => failing, 3).batches(0)) break;
    await sleep(1); // an unhandled rejection would fail this test
  });
});

describe("worker threads", () => {
  /** Both kinds of pass, with few and many threads. */
  async function sameForAnyNumber(dataset: Dataset, settings: LoaderOptions): Promise<string> {
    const hashes: string[] = [];
    for (const workers of [0, 1, 3]) {
      const warnings: string[] = [];
      const loader = openLoader(dataset, { ...settings, workers, onWarning: (message) => warnings.push(message) });
      try {
        const passes = [
          loader.batches(0),
          loader.batches(1, { from: 1 }),
          loader.batches(1, { clean: true }),
          loader.inOrder(),
        ];
        const parts: string[] = [];
        for (const pass of passes) parts.push(hash(await collect(pass)));
        hashes.push([...parts, ...warnings].join("\n"));
      } finally {
        await loader.close();
      }
    }
    assert.equal(hashes[1], hashes[0]);
    assert.equal(hashes[2], hashes[0]);
    return hashes[0]!;
  }

  it("give the same bits in the same order as the main thread: memory and a held-out part", async () => {
    await sameForAnyNumber(memory(30), options);
    await sameForAnyNumber(split(memory(60), 0.5, 1).heldOut, options);
  });

  it("give the same bits from a folder and from archives, small images cached or not, large ones decoded each time", async () => {
    const tree = imageTree(["cat", "dog"], 5);
    tree["train/cat/big.jpg"] = await jpeg(1, 24, 30);
    tree["train/dog/broken.png"] = png(1, 8, 8).slice(0, 60);
    const folder = writeTree(temporaryFolder(), tree);
    writeTree(folder, { "x.tar": await tarOf(tree) });
    const settings = { ...options, input: input(8, 3), maxBroken: 0.1 };
    const all: string[] = [];
    for (const [path, cacheBytes] of [
      [folder, 0],
      [folder, 2 ** 20],
      [join(folder, "x.tar"), 2 ** 20],
    ] as const) {
      const { train } = await openData(path);
      const result = await sameForAnyNumber(train, { ...settings, cacheBytes });
      assert.match(result, /broken image: .*train\/dog\/broken\.png: PNG/);
      all.push(result.replaceAll(path, ""));
    }
    assert.equal(new Set(all).size, 1);
  });

  it("are refused a dataset of one's own and a negative number", () => {
    assert.throws(() => openLoader(withBroken(8, []), { ...options, workers: 1 }), UsageError);
    assert.throws(() => openLoader(memory(8), { ...options, workers: -1 }), UsageError);
  });

  it("are gone after close, and whoever waits for a batch is told", async () => {
    const loader = openLoader(memory(400), { ...options, workers: 2 });
    const pass = loader.batches(0);
    await pass.next();
    const told = assert.rejects(
      collect(pass),
      (error: Error) => error instanceof UsageError && /closed/.test(error.message),
    );
    await loader.close();
    await told;
    await assert.rejects(collect(loader.inOrder()), UsageError);
    await loader.close();
  });

  it("do not keep a process alive that forgets to close them", async () => {
    const url = (name: string) => JSON.stringify(new URL(`../../src/data/${name}.js`, import.meta.url).href);
    const script = `
      const { MemoryDataset } = await import(${url("dataset")});
      const { openLoader } = await import(${url("loader-node")});
      const dataset = new MemoryDataset({ name: "toy", data: new Uint8Array(8), height: 1, width: 1, channels: 1,
        labels: new Int32Array(8), classNames: ["a"] });
      const input = ${JSON.stringify({ ...input(1, 1) })};
      for await (const { size } of openLoader(dataset, { batchSize: 4, input, workers: 1 }).batches(0)) console.log(size);`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
      timeout: 20_000,
    });
    assert.equal(stdout, "4\n4\n");
  });

  it("that die reject what was asked of them", async () => {
    const dataset = memory(8);
    dataset.labels[5] = 9; // refused when the thread opens the set
    const loader = openLoader(dataset, { ...options, workers: 2 });
    const dead = (error: Error) =>
      error instanceof DataError && /data worker stopped: .*image 5 has label 9/.test(error.message);
    await assert.rejects(collect(loader.batches(0)), dead);
    await assert.rejects(collect(loader.batches(0)), dead);
    await loader.close();
  });

  it("pass on an error that is no broken image", async () => {
    const wrong = { ...input(4, 1), cropPct: 7 };
    const loader = openLoader(memory(8), { ...options, augment: null, input: wrong, workers: 1 });
    await assert.rejects(collect(loader.batches(0)), /cropPct/);
    await loader.close();
  });
});
