/** Small data sets, made on the spot in temporary folders. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import encodeJpeg, { init } from "@jsquash/jpeg/encode.js";
import { encode as encodePng } from "fast-png";
import { packTar } from "modern-tar";

/** A folder that is gone when the tests of this file are through. */
export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), "dsnet-data-"));
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Contents by path; null: an empty folder. */
export type Tree = Record<string, Uint8Array | string | null>;

export function writeTree(root: string, tree: Tree): string {
  for (const [name, content] of Object.entries(tree)) {
    const path = join(root, name);
    mkdirSync(content === null ? path : dirname(path), { recursive: true });
    if (content !== null) writeFileSync(path, content);
  }
  return root;
}

export function tarOf(tree: Tree): Promise<Uint8Array> {
  return packTar(
    Object.entries(tree).map(([name, body]) =>
      body === null
        ? { header: { name: `${name}/`, size: 0, type: "directory" as const } }
        : { header: { name, size: typeof body === "string" ? Buffer.byteLength(body) : body.length }, body },
    ),
  );
}

/** Byte `i` of image `k`: something that differs between images and places. */
export const pattern = (k: number, i: number): number => (k * 37 + i * 11 + ((i * i) >> 3)) & 0xff;

export function patternBytes(k: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => pattern(k, i));
}

export function png(k: number, height: number, width: number, channels: 1 | 3 = 3): Uint8Array {
  return encodePng({ data: patternBytes(k, height * width * channels), height, width, channels, depth: 8 });
}

/** `options`: mozjpeg's, over its defaults: progressive, quality 75, 4:2:0. */
export async function jpeg(
  k: number,
  height: number,
  width: number,
  options: Parameters<typeof encodeJpeg>[1] = {},
): Promise<Uint8Array> {
  const wasm = await readFile(new URL(import.meta.resolve("@jsquash/jpeg/codec/enc/mozjpeg_enc.wasm")));
  await init(await WebAssembly.compile(wasm));
  const data = new Uint8ClampedArray(height * width * 4).map((_, i) => (i % 4 === 3 ? 255 : pattern(k, i >> 5)));
  return new Uint8Array(await encodeJpeg({ data, height, width, colorSpace: "srgb" } as ImageData, options));
}

function idx(sizes: number[], data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * sizes.length + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x800 + sizes.length);
  for (const [d, size] of sizes.entries()) view.setUint32(4 + 4 * d, size);
  bytes.set(data, 4 + 4 * sizes.length);
  return bytes;
}

/** Images `first`, `first + 1`, ... of the pattern. */
export function idxImages(count: number, height: number, width: number, first = 0): Uint8Array {
  const size = height * width;
  return idx(
    [count, height, width],
    Uint8Array.from({ length: count * size }, (_, i) => pattern(first + Math.floor(i / size), i % size)),
  );
}

export function idxLabels(labels: number[]): Uint8Array {
  return idx([labels.length], Uint8Array.from(labels));
}

/** MNIST's four files: 12 training and 4 validation images of 6×5, classes 0 to 3. */
export const idxTree = (): Record<string, Uint8Array> => ({
  "train-images-idx3-ubyte": idxImages(12, 6, 5),
  "train-labels-idx1-ubyte": idxLabels([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]),
  "t10k-images-idx3-ubyte": idxImages(4, 6, 5, 100),
  "t10k-labels-idx1-ubyte": idxLabels([3, 2, 1, 0]),
});

/** One CIFAR record an entry: label bytes, then image `k` of the pattern, planar. */
export function cifarRecords(records: { labels: number[]; k: number }[]): Uint8Array {
  return Uint8Array.from(records.flatMap(({ labels, k }) => [...labels, ...patternBytes(k, 3072)]));
}

/** An image folder: `perClass` PNGs of 8×8 a class in train/, one in val/. */
export function imageTree(classes = ["cat", "dog", "emu"], perClass = 4): Record<string, Uint8Array> {
  const tree: Record<string, Uint8Array> = {};
  classes.forEach((name, c) => {
    for (let n = 0; n < perClass; n++) tree[`train/${name}/${n}.png`] = png(c * 100 + n, 8, 8);
    tree[`val/${name}/0.png`] = png(c * 100 + 50, 8, 8);
  });
  return tree;
}
