/** A tree of files under one surface, whether it lies in a folder or in a tar archive. Nothing is unpacked to disk. */
import { closeSync, createReadStream, openSync, readSync } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { DataError, FormatError } from "../errors.js";
import { sharedBytes } from "./dataset.js";
import { indexTar } from "./formats/tar.js";

/** Plain data, so that a worker thread can be handed the same tree. */
export type Files = Folder | Tar;

interface Tree {
  /** The folder or archive. */
  path: string;
  /** Files, relative to `path`, with `/`, sorted. */
  names: string[];
  /** Folders, likewise, empty ones too. An archive may leave out those of its files. */
  folders: string[];
}

export interface Folder extends Tree {
  kind: "folder";
}

export interface Tar extends Tree {
  kind: "tar";
  offsets: Float64Array;
  sizes: Float64Array;
  /** The whole archive, where it had to be decompressed; null: read from `path`. */
  bytes: Uint8Array | null;
}

/** Most bytes a compressed archive or file may unpack to: it is held in memory. */
export const MAX_UNPACKED = 1 << 30;
/** Folders deeper than this are not looked into: `name/train/class/image` is the deepest layout. */
const MAX_DEPTH = 4;

/** Opens a folder, .tar, .tar.gz or .tgz. Throws `DataError` where it cannot be read, `FormatError` where it is damaged. */
export async function openFiles(path: string, maxUnpacked = MAX_UNPACKED): Promise<Files> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) {
      const names: string[] = [];
      const folders: string[] = [];
      await walk(path, "", MAX_DEPTH, names, folders);
      return { kind: "folder", path, names: names.sort(), folders: folders.sort() };
    }
    if (/\.(tar\.gz|tgz)$/i.test(path)) {
      const bytes = await gunzip(createReadStream(path), path, maxUnpacked);
      return tar(path, bytes.length, (at, length) => bytes.subarray(at, at + length), bytes);
    }
    if (/\.tar$/i.test(path)) {
      const file = openSync(path, "r");
      try {
        return tar(path, found.size, windowed(file), null);
      } finally {
        closeSync(file);
      }
    }
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).syscall) throw error;
    throw new DataError(
      `${path}: expected a folder or archive of images, or the word mnist, but it cannot be read: ${(error as Error).message}`,
      { cause: error },
    );
  }
  throw new DataError(`${path}: expected a folder, .tar, .tar.gz or .tgz, or the word mnist`);
}

function tar(
  path: string,
  size: number,
  read: (at: number, length: number) => Uint8Array,
  bytes: Uint8Array | null,
): Tar {
  const { folders, names, offsets, sizes } = indexTar(size, read, path);
  const last = new Map(names.map((name, i) => [name, i])); // a name that comes again replaces the earlier file, as in tar
  const kept = [...last.keys()].filter((name) => !hidden(name)).sort();
  return {
    kind: "tar",
    path,
    names: kept,
    folders: [...new Set(folders)].filter((name) => !hidden(name)).sort(),
    offsets: Float64Array.from(kept, (name) => offsets[last.get(name)!]!),
    sizes: Float64Array.from(kept, (name) => sizes[last.get(name)!]!),
    bytes,
  };
}

/** The bytes of `files.names[i]`. */
export async function readEntry(files: Files, i: number): Promise<Uint8Array> {
  if (files.kind === "folder") return readFile(join(files.path, files.names[i]!));
  const at = files.offsets[i]!;
  const length = files.sizes[i]!;
  if (files.bytes) return files.bytes.slice(at, at + length);
  const file = await open(files.path);
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(length), 0, length, at);
    if (bytesRead !== length) throw new FormatError(`${files.path}: has become shorter since it was opened`);
    return buffer;
  } finally {
    await file.close();
  }
}

/** How a file is called in messages. */
export const describeEntry = (files: Files, i: number): string => join(files.path, files.names[i]!);

/** Decompresses into memory that threads can share. Throws `FormatError` for damage, `DataError` beyond `max` bytes. */
export async function gunzip(
  compressed: Uint8Array | AsyncIterable<Uint8Array>,
  name: string,
  max = MAX_UNPACKED,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const source = compressed instanceof Uint8Array ? [compressed] : compressed;
  try {
    await pipeline(Readable.from(source), createGunzip({ chunkSize: 1 << 18 }), async (unpacked) => {
      for await (const part of unpacked as AsyncIterable<Uint8Array>) {
        length += part.length;
        if (length > max) return;
        parts.push(part);
      }
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall) throw error; // reading failed, not decompressing
    if (length <= max) {
      throw new FormatError(`${name}: cannot be decompressed: ${(error as Error).message}`, { cause: error });
    }
  }
  if (length > max) {
    throw new DataError(
      `${name}: unpacks to more than ${max / 2 ** 20} MiB, which is held in memory: unpack it, or recompress it as a plain .tar, ` +
        "from which images are read one by one",
    );
  }
  const bytes = sharedBytes(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** `.DS_Store` and macOS's shadow files `._name` are not data. */
const hidden = (name: string): boolean => name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");

/** Appends to `names` and `folders` what lies in `folder`, itself relative to `root`. */
async function walk(root: string, folder: string, depth: number, names: string[], folders: string[]): Promise<void> {
  for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
    const name = folder ? `${folder}/${entry.name}` : entry.name;
    if (hidden(name)) continue;
    // a link counts as what it leads to; a dead one as a file, so that reading it names it
    const target = entry.isSymbolicLink() ? await stat(join(root, name)).catch(() => entry) : entry;
    if (!target.isDirectory()) {
      names.push(name);
    } else {
      folders.push(name);
      if (depth > 1) await walk(root, name, depth - 1, names, folders);
    }
  }
}

/** Reads an open file by way of one window, as the headers of small files lie close together. */
function windowed(file: number): (at: number, length: number) => Uint8Array {
  let start = 0;
  let window = new Uint8Array(0);
  return (at, length) => {
    if (at < start || at + length > start + window.length) {
      const buffer = new Uint8Array(Math.max(length, 1 << 16));
      window = buffer.subarray(0, readSync(file, buffer, 0, buffer.length, at));
      start = at;
    }
    return window.subarray(at - start, at - start + length);
  };
}
