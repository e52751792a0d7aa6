/** Files and images in a browser: fetch, its own inflate, and its own JPEG decoder without colour conversion. */
import { FormatError, StorageError } from "../errors.js";
import { toChannels } from "./pixels.js";
import { fromRaw } from "./raw.js";
import type { Source } from "./source.js";

async function read(place: string): Promise<Uint8Array> {
  let response: Response;
  let bytes: Uint8Array;
  try {
    response = await fetch(place);
    bytes = new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw new StorageError(`${place}: it could not be fetched: ${(cause as Error).message}`, { cause });
  }
  if (!response.ok) throw new StorageError(`${place}: expected the file, got HTTP status ${response.status}`);
  return bytes;
}

export const source: Source = {
  read,
  readModel: read,

  async inflate(pieces, limit) {
    const out = new Uint8Array(limit);
    let length = 0;
    const deflated = new Blob(pieces.map((piece) => piece.slice())).stream();
    const stream = deflated.pipeThrough(new DecompressionStream("deflate"));
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) return out.subarray(0, length);
      if (length + value.length > limit) {
        await reader.cancel();
        throw new RangeError(`more than ${limit} bytes`);
      }
      out.set(value, length);
      length += value.length;
    }
  },

  async decodeJpeg(bytes, channels) {
    let image: ImageData;
    try {
      // Every browser turns it upright by default; the standard has no word for leaving it as it lies.
      const bitmap = await createImageBitmap(new Blob([bytes.slice()]), { colorSpaceConversion: "none" });
      const { width, height } = bitmap;
      const context = new OffscreenCanvas(width, height).getContext("2d")!;
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
      image = context.getImageData(0, 0, width, height);
    } catch (cause) {
      throw new FormatError(`JPEG: this browser cannot decode it: ${(cause as Error).message}`, { cause });
    }
    return toChannels(fromRaw(image), channels);
  },
};
