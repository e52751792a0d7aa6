/** Files and images under Node. */
import { inflateSync } from "node:zlib";
import { readBytes } from "../io/files-node.js";
import { readModelBytes } from "../io/model-file-node.js";
import { decodeJpeg } from "./jpeg-node.js";
import { upright } from "./orientation.js";
import { toChannels } from "./pixels.js";
import { fromRaw } from "./raw.js";
import type { Source } from "./source.js";

export const source: Source = {
  read: readBytes,
  readModel: readModelBytes,

  async inflate(pieces, limit) {
    return inflateSync(pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces), { maxOutputLength: limit });
  },

  async decodeJpeg(bytes, channels, orientation) {
    return upright(toChannels(fromRaw(await decodeJpeg(bytes)), channels), orientation);
  },
};
