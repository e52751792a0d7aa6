import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CIFAR10, CIFAR100_COARSE, CIFAR100_FINE, parseCifar, parseClassNames } from "../../src/data/formats/cifar.js";
import { parseIdxImages, parseIdxLabels } from "../../src/data/formats/idx.js";
import { indexTar, type TarIndex } from "../../src/data/formats/tar.js";
import { FormatError } from "../../src/errors.js";
import { cifarRecords, idxImages, idxLabels, pattern, tarOf, temporaryFolder, writeTree } from "./support.js";

const fails = (run: () => unknown, message: RegExp) =>
  assert.throws(run, (error) => error instanceof FormatError && message.test(error.message));

describe("IDX", () => {
  it("gives count, size and pixels as they lie in the file", () => {
    const { count, height, width, data } = parseIdxImages(idxImages(3, 4, 5), "x");
    assert.deepEqual([count, height, width, data.length], [3, 4, 5, 60]);
    assert.equal(data[2 * 20 + 7], pattern(2, 7));
    assert.deepEqual([...parseIdxLabels(idxLabels([7, 0, 9]), "x")], [7, 0, 9]);
  });

  it("refuses a wrong magic number, truncation at any byte, surplus bytes and empty sizes, naming the file", () => {
    const images = idxImages(2, 3, 3);
    fails(() => parseIdxImages(idxLabels([1, 2, 3, 4, 5, 6, 7, 8]), "t10k"), /^t10k: .*0x00000803.*0x00000801/);
    fails(() => parseIdxLabels(images, "labels.gz"), /^labels\.gz: .*0x00000801.*0x00000803/);
    fails(() => parseIdxImages(idxImages(0, 3, 3), "x"), /empty/);
    fails(() => parseIdxImages(Uint8Array.from([...images, 0]), "x"), /18 bytes, the file has 19/);
    for (let length = 0; length < images.length; length++) {
      fails(() => parseIdxImages(images.subarray(0, length), "x"), /truncated/);
    }
  });

  it("never fails otherwise than with FormatError, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, real) => {
        if (real) bytes.set([0, 0, 8, 3].slice(0, bytes.length));
        try {
          parseIdxImages(bytes, "x");
        } catch (error) {
          assert.ok(error instanceof FormatError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("CIFAR", () => {
  it("interleaves the colour planes and joins the files in order", () => {
    const files = [
      { name: "a", bytes: cifarRecords([{ labels: [3], k: 1 }]) },
      { name: "b", bytes: cifarRecords([{ labels: [9], k: 2 }]) },
    ];
    const { data, labels } = parseCifar(files, CIFAR10);
    assert.deepEqual([...labels], [3, 9]);
    for (const p of [0, 1, 500, 1023]) {
      for (const c of [0, 1, 2]) assert.equal(data[3072 + 3 * p + c], pattern(2, 1024 * c + p));
    }
  });

  it("reads CIFAR-100's coarse label from the first byte and the fine one from the second", () => {
    const files = [{ name: "train.bin", bytes: cifarRecords([{ labels: [19, 99], k: 0 }]) }];
    assert.deepEqual([...parseCifar(files, CIFAR100_COARSE).labels], [19]);
    assert.deepEqual([...parseCifar(files, CIFAR100_FINE).labels], [99]);
  });

  it("refuses partial records, empty files and labels out of range, naming file and record", () => {
    const good = cifarRecords([
      { labels: [3], k: 1 },
      { labels: [10], k: 1 },
    ]);
    fails(() => parseCifar([{ name: "b3", bytes: good }], CIFAR10), /^b3: record 1 has label 10, expected 0 to 9/);
    fails(() => parseCifar([{ name: "b3", bytes: good.subarray(0, 4000) }], CIFAR10), /3073 bytes, got 4000/);
    fails(() => parseCifar([{ name: "b3", bytes: new Uint8Array(0) }], CIFAR10), /got 0 bytes/);
  });

  it("reads one class name a line and refuses another number of them", () => {
    const bytes = new TextEncoder().encode("airplane\r\ncat\n\n");
    assert.deepEqual(parseClassNames(bytes, 2, "meta"), ["airplane", "cat"]);
    fails(() => parseClassNames(bytes, 10, "batches.meta.txt"), /^batches\.meta\.txt: expected 10 class names, got 2/);
  });
});

describe("tar", () => {
  const index = (bytes: Uint8Array): TarIndex =>
    indexTar(bytes.length, (at, length) => bytes.subarray(at, at + length), "a.tar");
  const contents = (bytes: Uint8Array) => {
    const { names, offsets, sizes } = index(bytes);
    return names.map((name, i) => [name, Buffer.from(bytes.subarray(offsets[i], offsets[i]! + sizes[i]!)).toString()]);
  };
  const long = `${"deep/".repeat(40)}${"n".repeat(90)}.png`; // longer than ustar's 255

  it("finds every file of another writer's archive, with long and non-ASCII names, and nothing else", async () => {
    const bytes = await tarOf({
      folder: null,
      "folder/a.txt": "alpha",
      empty: "",
      [long]: "far",
      "ünï/ç.txt": "x".repeat(1000),
    });
    assert.deepEqual(contents(bytes), [
      ["folder/a.txt", "alpha"],
      ["empty", ""],
      [long, "far"],
      ["ünï/ç.txt", "x".repeat(1000)],
    ]);
    assert.deepEqual(index(bytes).folders, ["folder"]);
  });

  for (const format of ["gnu", "ustar", "pax", "v7"]) {
    it(`reads the system tar's ${format} format`, (t) => {
      const folder = temporaryFolder();
      const name = format === "gnu" || format === "pax" ? long : `${"d".repeat(60)}/short.txt`;
      writeTree(folder, { [join("in", name)]: "far", "in/b.txt": "beta" });
      mkdirSync(join(folder, "in", "empty"));
      symlinkSync("b.txt", join(folder, "in", "link.txt"));
      try {
        execFileSync("tar", [`--format=${format}`, "-cf", join(folder, "a.tar"), "-C", join(folder, "in"), "."], {
          stdio: "pipe",
        });
      } catch {
        return t.skip("no GNU tar on this machine");
      }
      const bytes = readFileSync(join(folder, "a.tar"));
      assert.deepEqual(
        new Map(contents(bytes) as [string, string][]),
        new Map([
          [name, "far"],
          ["b.txt", "beta"],
        ]),
      );
      assert.ok(index(bytes).folders.includes("empty"));
    });
  }

  it("refuses truncation at any block and a damaged header, never losing files silently", async () => {
    const bytes = await tarOf({ a: "x".repeat(600), b: "y" });
    const end = 512 + 1024 + 512 + 512;
    for (let length = 0; length <= end; length += 128) fails(() => index(bytes.subarray(0, length)), /truncated/);
    const damaged = bytes.slice();
    damaged[512 + 1024 + 3]! ^= 1;
    fails(() => index(damaged), /header at byte 1536 has a wrong checksum/);
    fails(() => index(new TextEncoder().encode("no archive".repeat(100))), /not a tar archive/);
    fails(() => index(bytes.with(0, 0)), /damaged: the header at byte 0 has a wrong checksum/);
    const hole = bytes.slice().fill(0, 512 + 1024, 512 + 1024 + 512); // a header that was never written
    fails(() => index(hole), /damaged or not whole, its end at byte 1536/);
    const unfinished = new Uint8Array(bytes.length + 2 ** 21);
    unfinished.set(bytes);
    fails(() => index(unfinished), /damaged or not whole/);
  });

  it("refuses a pax size that is no count, which would lead backwards or nowhere", () => {
    const entry = (name: string, type: string, content: string) => {
      const block = new Uint8Array(512 + 512 * Math.ceil(content.length / 512));
      const put = (text: string, at: number) => void block.set(new TextEncoder().encode(text), at);
      put(name, 0);
      put(content.length.toString(8).padStart(11, "0"), 124);
      put(`        ${type}`, 148);
      put(
        `${block
          .reduce((a, b) => a + b, 0)
          .toString(8)
          .padStart(6, "0")}\0`,
        148,
      );
      put(content, 512);
      return block;
    };
    for (const size of ["-1536", "-512", "-1", "1e3", "0x10", "", "one"]) {
      const record = ` size=${size}\n`;
      const pax = entry("header", "x", `${record.length + (record.length < 9 ? 1 : 2)}${record}`);
      const bytes = Uint8Array.from([...pax, ...entry("a", "0", "content"), ...new Uint8Array(1024)]);
      fails(() => index(bytes), /truncated/);
    }
  });

  it("never fails otherwise than with FormatError when bytes are changed", async () => {
    const bytes = await tarOf({ [long]: "far", b: "y" });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const changed = bytes.slice();
        changed[at] = value;
        try {
          const { offsets, sizes } = index(changed);
          assert.ok(offsets.every((offset, i) => offset + sizes[i]! <= bytes.length));
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});
