/** Model files on disk, and those that come with the package. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../errors.js";
import { readBytes } from "./files-node.js";
import { decodeModel, type ModelFile } from "./model-file.js";

/** Beside dist/, in a clone as in the package. */
const SHIPPED = fileURLToPath(new URL("../../../models", import.meta.url));
const ENDING = ".safetensors";

/** Names of the models that come with the package, which stand for their files wherever a model file is asked for. */
export function shippedModels(): string[] {
  if (!existsSync(SHIPPED)) return [];
  const files = readdirSync(SHIPPED).filter((file) => file.endsWith(ENDING));
  return files.map((file) => file.slice(0, -ENDING.length)).sort();
}

/** The path of a model's file. A shipped model's name is that model, even beside a file of that name: `./cifar10` is the file. */
export function modelPath(model: string): string {
  return shippedModels().includes(model) ? join(SHIPPED, model + ENDING) : model;
}

/** The bytes of a model's file, which is given by its path or a shipped model's name. Errors as of `readBytes`. */
export async function readModelBytes(model: string): Promise<Uint8Array> {
  const path = modelPath(model);
  if (/^[\w-]+$/.test(path) && !existsSync(path)) {
    const names = shippedModels();
    if (names.length > 0)
      throw new UsageError(`There is no model ${model}: expected a file's path, or one of ${names.join(", ")}.`);
  }
  return readBytes(path);
}

/** Reads and checks a model file; errors name it. */
export async function readModelFile(model: string): Promise<ModelFile> {
  return decodeModel(await readModelBytes(model), model);
}
