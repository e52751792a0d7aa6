/** Files and images in a browser: fetch, and its own decoder without colour conversion. */
import { FormatError, StorageError } from "../errors.js";
import { toChannels } from "./pixels.js";
import { fromRaw } from "./raw.js";
import type { Source } from "./source.js";

export const source: Source = {
  async read(place) {
    const response = await fetch(place);
    if (!response.ok) throw new StorageError(`${place}: expected the file, got HTTP status ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  },

  async decode(bytes, channels) {
    let bitmap: ImageBitmap;
    try {
      bitmap = await createImageBitmap(new Blob([bytes.slice()]), {
        colorSpaceConversion: "none",
        premultiplyAlpha: "none",
        imageOrientation: "none" as ImageOrientation,
      });
    } catch (cause) {
      throw new FormatError(`image: this browser cannot decode it: ${(cause as Error).message}`, { cause });
    }
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d")!;
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return toChannels(fromRaw(context.getImageData(0, 0, width, height)), channels);
  },
};
