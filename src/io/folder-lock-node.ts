/**
 * Keeps two processes from writing to the same folder: a file `.lock` in it that names its owner. The lock of a process
 * that no longer lives is taken over.
 */
import { realpathSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { StorageError, UsageError } from "../errors.js";

/** How long a lock may stay without its owner's name, which is written right after the file is made. */
const UNFINISHED_MS = 100;

/** Folders this process has locked: its id alone cannot tell, ids come again in another container. */
const held = new Set<string>();

export class FolderLock {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Locks an existing folder. UsageError when someone else is at work in it. */
  static async acquire(path: string): Promise<FolderLock> {
    const folder = realpathSync(path);
    const lock = join(folder, ".lock");
    if (held.has(folder)) throw new UsageError(`${path} is already in use by this process: close that run first.`);
    held.add(folder);
    try {
      if (!(await create(lock))) await takeOver(lock, path);
    } catch (cause) {
      held.delete(folder);
      if (cause instanceof UsageError) throw cause;
      throw new StorageError(`Could not create ${lock}: ${(cause as Error).message}. Is the folder writable?`, {
        cause,
      });
    }
    return new FolderLock(folder);
  }

  async release(): Promise<void> {
    await rm(join(this.#folder, ".lock"), { force: true });
    held.delete(this.#folder);
  }
}

/** False when the file is there already. */
async function create(file: string): Promise<boolean> {
  try {
    await writeFile(file, `${process.pid} ${hostname()}\n`, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Takes the lock if its owner is dead. Only who holds the claim may judge and remove it, or two could at once. */
async function takeOver(lock: string, path: string): Promise<void> {
  const claim = `${lock}.claim`;
  if (!(await create(claim))) {
    const claimer = await readOwner(claim);
    if (claimer && isDead(claimer)) await rm(claim, { force: true }); // killed in the middle of this function
    if (!claimer || !isDead(claimer) || !(await create(claim)))
      throw inUse(path, "a process that takes it over", claim);
  }
  try {
    let owner = await readOwner(lock);
    if (!owner) {
      await setTimeout(UNFINISHED_MS);
      owner = await readOwner(lock);
    }
    if (owner && !isDead(owner)) throw inUse(path, `process ${owner.pid} on ${owner.host}`, lock);
    await rm(lock, { force: true });
    if (!(await create(lock))) throw inUse(path, "another process", lock);
  } finally {
    await rm(claim, { force: true });
  }
}

interface Owner {
  pid: number;
  host: string;
}

/** Undefined when the file is unfinished, or gone since. */
async function readOwner(file: string): Promise<Owner | undefined> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const match = /^([1-9]\d*) (.*)\n$/.exec(text);
  return match ? { pid: Number(match[1]), host: match[2]! } : undefined;
}

/** A process on another machine cannot be seen and counts as alive; this one's number stems from an earlier life. */
function isDead({ pid, host }: Owner): boolean {
  if (host !== hostname()) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

function inUse(path: string, owner: string, lock: string): UsageError {
  return new UsageError(
    `${path} is in use by ${owner}. Wait for it to end, or choose another folder with --output. If ${owner} is no run of dsnet, delete ${lock} and try again.`,
  );
}
