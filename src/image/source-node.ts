/** Files and images under Node. */
import { readBytes } from "../io/files-node.js";
import { decodeImage } from "./decode-node.js";
import type { Source } from "./source.js";

export const source: Source = {
  read: readBytes,
  decode: (bytes, channels) => decodeImage(bytes, { channels }),
};
