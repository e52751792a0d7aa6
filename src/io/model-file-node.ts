/** Model files on disk. */
import { FormatError } from "../errors.js";
import { readBytes } from "./files-node.js";
import { decodeModel, type ModelFile } from "./model-file.js";

/** Reads and checks a model file; errors name its path. */
export async function readModelFile(path: string): Promise<ModelFile> {
  const bytes = await readBytes(path);
  try {
    return decodeModel(bytes);
  } catch (cause) {
    if (cause instanceof FormatError) throw new FormatError(`${path}: ${cause.message}`, { cause });
    throw cause;
  }
}
