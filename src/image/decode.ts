/** Encoded image (PNG or JPEG, told apart by their first bytes) to pixels. */
import { source } from "#source";
import { FormatError } from "../errors.js";
import { isJpeg, readJpegHeader } from "./jpeg-header.js";
import { MAX_PIXELS, type Pixels } from "./pixels.js";
import { decodePng, isPng } from "./png.js";

export interface DecodeOptions {
  /** Grey or RGB; the image is converted as Pillow does. */
  channels: 1 | 3;
  /** Larger images are refused by their header, before any memory is taken. Default: 25 million. */
  maxPixels?: number;
}

/**
 * The image as Pillow's `ImageOps.exif_transpose(Image.open(...)).convert("RGB" | "L")` would give it: turned upright by
 * its EXIF orientation (torchvision's ImageFolder leaves it lying; browsers know no other way), colour profile and
 * transparency ignored. Of 16 bits the upper 8 are kept, also in grey, which Pillow clips; an animated PNG gives its default
 * image. The result is the same on every machine; a browser decodes JPEG by its own means, PNG by ours.
 *
 * A broken, truncated, too large, CMYK or unknown file rejects with a `FormatError` that names the problem.
 */
export async function decodeImage(
  bytes: Uint8Array,
  { channels, maxPixels = MAX_PIXELS }: DecodeOptions,
): Promise<Pixels> {
  const checkSize = (height: number, width: number) => {
    if (height * width > maxPixels) {
      throw new FormatError(
        `image: ${width}x${height} pixels are more than the limit of ${maxPixels}: scale the image down first`,
      );
    }
  };
  if (isPng(bytes)) return decodePng(bytes, channels, checkSize);
  if (isJpeg(bytes)) {
    const { height, width, orientation } = readJpegHeader(bytes);
    checkSize(height, width);
    return source.decodeJpeg(bytes, channels, orientation);
  }
  if (bytes.length === 0) throw new FormatError("image: the file is empty");
  const text = String.fromCharCode(...bytes.subarray(0, 16));
  const other = OTHER_FORMATS.find(([at, signature]) => text.startsWith(signature, at));
  if (other) throw new FormatError(`image: ${other[2]} is not supported: convert the file to PNG or JPEG first`);
  const start = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new FormatError(`image: expected a PNG or JPEG file, got one that starts with ${start}`);
}

/** What other formats have at which byte. */
const OTHER_FORMATS = [
  [0, "GIF8", "GIF"],
  [8, "WEBP", "WebP"],
  [0, "BM", "BMP"],
  [0, "II*\0", "TIFF"],
  [0, "MM\0*", "TIFF"],
  [4, "ftypavi", "AVIF"],
  [4, "ftyphe", "HEIC"],
  [4, "ftypmif1", "HEIC"],
  [0, "<svg", "SVG"],
  [0, "<?xml", "SVG"],
] as const;
