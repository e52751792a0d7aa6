/** The platform under Node. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { NativeAddon, Platform } from "./platform.js";

const require = createRequire(import.meta.url);

/** The user's cache. */
const cacheFolder = () => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "dsnet");

/** Where scripts/build-native.mjs leaves the addon: in a clone, or in the user's cache. */
const addonFolders = () => [fileURLToPath(new URL("../../../build", import.meta.url)), cacheFolder()];

/** The file that keeps what is remembered for a key. */
const memory = (key: string) =>
  join(cacheFolder(), `${createHash("sha256").update(key).digest("hex").slice(0, 32)}.json`);

export const platform: Platform = {
  cpuCount: availableParallelism,

  processor: () => cpus()[0]?.model ?? process.arch,

  recall(key) {
    try {
      return readFileSync(memory(key), "utf8");
    } catch {
      return null; // never measured, or out of reach
    }
  },

  remember(key, text) {
    const file = memory(key);
    try {
      mkdirSync(cacheFolder(), { recursive: true });
      writeFileSync(`${file}.${process.pid}`, text);
      renameSync(`${file}.${process.pid}`, file);
    } catch {
      // No home or a full disk: it is found out again next time.
    }
  },

  startWorker(source, data, onError) {
    const worker = new Worker(`${source}\nstart(require("node:worker_threads").workerData);`, {
      eval: true,
      workerData: data,
      execArgv: [],
    });
    worker.on("error", (error) => onError(error.message));
    worker.unref();
    return () => void worker.terminate();
  },

  loadNative(kernelsHash) {
    if (process.env.DSNET_NATIVE === "0") return "switched off by DSNET_NATIVE=0";
    const name = `dsnet-${kernelsHash}-${process.platform}-${process.arch}.node`;
    const file = addonFolders()
      .map((folder) => join(folder, name))
      .find(existsSync);
    if (!file) return "not built; `npx dsnet build-native` (in a clone: `npm run build`) does, given a C compiler";
    try {
      return require(file) as NativeAddon;
    } catch (error) {
      return `${file} does not load: ${(error as Error).message}`;
    }
  },
};
