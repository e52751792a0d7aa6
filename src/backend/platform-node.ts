/** The platform under Node. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { NativeAddon, Platform } from "./platform.js";

const require = createRequire(import.meta.url);

/** Where scripts/build-native.mjs leaves the addon: in a clone, or in the user's cache. */
const addonFolders = () => [
  fileURLToPath(new URL("../../../build", import.meta.url)),
  join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "dsnet"),
];

export const platform: Platform = {
  cpuCount: availableParallelism,

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
