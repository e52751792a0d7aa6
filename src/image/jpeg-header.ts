/** What a JPEG file says of itself before its image data. Nothing is decoded. */
import { FormatError } from "../errors.js";
import { readOrientation } from "./orientation.js";

/** What an APP1 segment with EXIF begins with: "Exif" and two zeros. */
const EXIF = [0x45, 0x78, 0x69, 0x66, 0, 0];

/** A progressive image has about ten. */
const MAX_SCANS = 100;

export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

export interface JpegHeader {
  /** As stored, before the image is turned upright. */
  height: number;
  width: number;
  /** EXIF, 1 (upright) to 8. */
  orientation: number;
}

/** Throws `FormatError` if there is no image, if it is of a kind that is not supported, or if its end is missing. */
export function readJpegHeader(bytes: Uint8Array): JpegHeader {
  const truncated = (what: string) => new FormatError(`JPEG: truncated, the file ends ${what}`);
  let size: { height: number; width: number } | undefined;
  let exif: Uint8Array | undefined;
  for (let at = 2; ; ) {
    while (at < bytes.length && bytes[at] !== 0xff) at++;
    while (bytes[at] === 0xff) at++;
    const marker = bytes[at++];
    if (marker === undefined || at + 2 > bytes.length) throw truncated("inside its header");
    if (standsAlone(marker)) continue;
    if (marker === 0xd9) throw new FormatError("JPEG: holds no image, only a header");
    const length = bytes[at]! * 256 + bytes[at + 1]!;
    if (at + length > bytes.length) throw truncated("inside its header");
    if (isFrame(marker)) {
      const height = bytes[at + 3]! * 256 + bytes[at + 4]!;
      const width = bytes[at + 5]! * 256 + bytes[at + 6]!;
      const components = bytes[at + 7]!;
      if (length < 8 || height === 0 || width === 0)
        throw new FormatError(`JPEG: the image is empty (${width}x${height})`);
      if (components !== 1 && components !== 3) {
        const kind = components === 4 ? "CMYK (4 components)" : `${components} components`;
        throw new FormatError(`JPEG: ${kind} is not supported, only grey and colour: convert the image to RGB`);
      }
      size = { height, width };
    } else if (marker === 0xda) {
      if (size === undefined) throw new FormatError("JPEG: image data without a frame header");
      if (scansFrom(bytes, at) > MAX_SCANS) {
        throw new FormatError(
          `JPEG: more than ${MAX_SCANS} scans, each of which a decoder goes through the whole image for`,
        );
      }
      return { ...size, orientation: exif ? readOrientation(exif) : 1 };
    } else if (marker === 0xe1 && EXIF.every((byte, i) => bytes[at + 2 + i] === byte)) {
      exif ??= bytes.subarray(at + 2 + EXIF.length, at + length);
    }
    at += length;
  }
}

/**
 * Scans of the image data whose first one's header is at `from`, up to the end of the image: what is behind it (cameras put films there)
 * is not looked at. Throws `FormatError` where the file ends before that.
 */
function scansFrom(bytes: Uint8Array, from: number): number {
  let scans = 1;
  for (let at = bytes.indexOf(0xff, from); at >= 0; at = bytes.indexOf(0xff, at)) {
    const marker = bytes[at + 1];
    if (marker === 0xd9) return scans;
    if (marker === 0xda) scans++;
    // Inside pixel data 0xff is escaped by 0x00, or begins a restart marker; 0xff may be repeated.
    if (marker === 0xff) at++;
    else if (marker === undefined || standsAlone(marker)) at += 2;
    else at += 2 + Math.max(2, bytes[at + 2]! * 256 + bytes[at + 3]!);
    if (!(at < bytes.length)) break;
  }
  throw new FormatError("JPEG: truncated, the file ends without an end-of-image marker");
}

/** Without a segment: no length follows. */
function standsAlone(marker: number): boolean {
  return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8);
}

/** SOF0..SOF15: 0xc0 to 0xcf without DHT, JPG and DAC. */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}
