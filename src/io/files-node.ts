/** Files on disk: whole reads, atomic writes and appends, whose errors say what to do. */
import { randomBytes } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, writeFileSync } from "node:fs";
import { open, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { StorageError, UsageError } from "../errors.js";

/** What a user can do about each system error. */
const ADVICE: Record<string, string> = {
  ENOSPC: "The disk is full: free some space or choose a folder on another disk.",
  EDQUOT: "Your disk quota is used up: free some space or choose another folder.",
  EACCES: "Permission denied: check who owns the file and its folder, or choose another folder.",
  EPERM: "The system does not permit it: check the file's owner and flags, or choose another folder.",
  EROFS: "The file system is read-only: choose a folder on another one.",
  ENOENT: "The folder does not exist: create it or correct the path.",
  ENOTDIR: "A part of the path is a file, not a folder: correct the path.",
  EISDIR: "The path is a folder: give the name of a file.",
  EMFILE: "Too many files are open: raise the limit (ulimit -n).",
  EIO: "The disk reports an error: check it and choose another one.",
};

function storageError(action: string, path: string, cause: unknown): StorageError {
  const { code, message } = cause as NodeJS.ErrnoException;
  return new StorageError(`Could not ${action} ${path}: ${(code && ADVICE[code]) ?? message}`, { cause });
}

/** The bytes of a file. UsageError when there is no such file or it may not be read, StorageError when the disk fails. */
export async function readBytes(path: string): Promise<Uint8Array> {
  try {
    const buffer = await readFile(path);
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new UsageError(`There is no file ${path}: check the path.`, { cause });
    if (code === "EACCES" || code === "EISDIR" || code === "ENOTDIR") {
      throw new UsageError(`Could not read ${path}: ${ADVICE[code]}`, { cause });
    }
    throw storageError("read", path, cause);
  }
}

/** Names that `writeFileAtomic` gives to unfinished files; one that is left over stems from a killed process. */
export const TEMPORARY_NAME = /^\..+\.[0-9a-f]{12}\.tmp$/;

/**
 * Writes a file so that after a crash at any moment the path holds either the old content or the whole new one: written
 * under a temporary name in the same folder, flushed, renamed, the folder flushed. Follows links. UsageError where the path is a
 * device or a pipe. After a StorageError the old content is there, and no temporary file.
 */
export async function writeFileAtomic(path: string, data: Uint8Array | readonly Uint8Array[]): Promise<void> {
  const target = await targetOf(path);
  const folder = dirname(target);
  // By chance, not by process: a process of the same number may have left one, in a container above all.
  const temporary = join(folder, `.${basename(target)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    const file = await open(temporary, "wx");
    try {
      for (const chunk of data instanceof Uint8Array ? [data] : data) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {}); // the first error is the one to tell
    throw storageError("write", path, cause);
  }
  await syncFolder(folder);
}

/** What a path leads to; itself where nothing is there yet. A rename would put a file in the place of a device or a link. */
async function targetOf(path: string): Promise<string> {
  try {
    const target = await realpath(path);
    const found = await stat(target);
    if (found.isFile() || found.isDirectory()) return target; // a folder: the rename says what is wrong
  } catch {
    return path; // nothing there, or what writing will say
  }
  throw new UsageError(`${path} is a device or a pipe: give the name of a file.`);
}

/** What says that a folder cannot be flushed here, not that the disk fails. */
const UNSYNCED = new Set(["EACCES", "EPERM", "EISDIR", "EINVAL", "ENOTSUP"]);

/** Makes a rename in the folder survive a power cut, where the system lets it. Windows cannot open folders and needs no such call. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  try {
    const handle = await open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (!UNSYNCED.has((cause as NodeJS.ErrnoException).code ?? "")) throw storageError("flush folder", folder, cause);
  }
}

/** A text file that only grows. Appends go to the system at once; `sync` waits for the disk. */
export class AppendFile {
  readonly #path: string;
  readonly #descriptor: number;
  #bytes: number;

  /** Opens the file, or creates it. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#descriptor = openSync(path, "a");
      this.#bytes = fstatSync(this.#descriptor).size;
    } catch (cause) {
      throw storageError("open", path, cause);
    }
  }

  /** Appends all of `text` or, with a StorageError, nothing. */
  append(text: string): void {
    const bytes = new TextEncoder().encode(text);
    try {
      writeFileSync(this.#descriptor, bytes);
    } catch (cause) {
      try {
        ftruncateSync(this.#descriptor, this.#bytes);
      } catch {
        // The half-written line stays; the error below tells of it.
      }
      throw storageError("append to", this.#path, cause);
    }
    this.#bytes += bytes.length;
  }

  /** Returns when everything appended is on the disk. */
  sync(): void {
    try {
      fsyncSync(this.#descriptor);
    } catch (cause) {
      throw storageError("flush", this.#path, cause);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
