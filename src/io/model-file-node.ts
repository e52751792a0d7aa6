/** Model files on disk. */
import { readBytes } from "./files-node.js";
import { decodeModel, type ModelFile } from "./model-file.js";

/** Reads and checks a model file; errors name its path. */
export async function readModelFile(path: string): Promise<ModelFile> {
  return decodeModel(await readBytes(path), path);
}
