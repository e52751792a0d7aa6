/** Files and images under Node. */
import { type Inflate, inflateSync } from "node:zlib";
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
    const deflated = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
    const { buffer, engine } = inflateSync(deflated, { maxOutputLength: limit, info: true }) as unknown as {
      buffer: Buffer;
      engine: Inflate;
    };
    // As a browser: its DecompressionStream takes nothing behind the stream's end.
    if (engine.bytesWritten < deflated.length) throw new Error("bytes follow its end");
    return buffer;
  },

  async decodeJpeg(bytes, channels, orientation) {
    return upright(toChannels(fromRaw(await decodeJpeg(bytes)), channels), orientation);
  },
};
