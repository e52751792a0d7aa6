/** Whatever a caller has for an image → pixels. */
import { source } from "#source";
import { decodeImage } from "./decode.js";
import { type Pixels, toChannels } from "./pixels.js";
import { fromRaw, type RawImage } from "./raw.js";

/**
 * A path (browser: URL), the bytes of a PNG or JPEG file, or raw pixels of 8 bits: 1, 3 or 4 channels (alpha is ignored),
 * such as an ImageData.
 */
export type ImageInput = string | Uint8Array | RawImage;

export async function readImage(image: ImageInput, channels: 1 | 3): Promise<Pixels> {
  if (typeof image === "string") return decodeImage(await source.read(image), { channels });
  if (image instanceof Uint8Array) return decodeImage(image, { channels });
  return toChannels(fromRaw(image), channels);
}
