/**
 * JPEG to pixels, by libjpeg compiled to WASM (@jsquash/jpeg): the same bytes as Pillow gives, on every machine.
 * Grey and colour; EXIF orientation and colour profile are ignored, as Pillow's `convert` does; CMYK is refused.
 */
import { readFile } from "node:fs/promises";
import factory from "@jsquash/jpeg/codec/dec/mozjpeg_dec.js";
import { FormatError } from "../errors.js";
import { allocPixels, luma, type Pixels } from "./pixels.js";

interface Codec {
  /** RGBA of a whole image. Throws emscripten's ExitStatus when libjpeg gives up, having printed why. */
  decode(bytes: Uint8Array, applyOrientation: boolean): { data: Uint8ClampedArray; height: number; width: number };
}

interface Instance {
  codec: Codec;
  /** What libjpeg has printed since it was last emptied. */
  messages: string[];
  /** libjpeg has left by exit(): its memory is in no known state. */
  dead: boolean;
}

let compiled: Promise<WebAssembly.Module> | undefined;
let current: Promise<Instance> | undefined;

async function start(): Promise<Instance> {
  compiled ??= readFile(new URL(import.meta.resolve("@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm"))).then((wasm) =>
    WebAssembly.compile(wasm),
  );
  const module = await compiled;
  const messages: string[] = [];
  const codec = await (factory as (options: object) => Promise<Codec>)({
    noInitialRun: true,
    print: (line: string) => messages.push(line),
    printErr: (line: string) => messages.push(line),
    instantiateWasm(imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance) => void) {
      const instance = new WebAssembly.Instance(module, imports);
      done(instance);
      return instance.exports;
    },
  });
  return { codec, messages, dead: false };
}

async function liveInstance(): Promise<Instance> {
  for (;;) {
    current ??= start();
    const instance = await current;
    if (!instance.dead) return instance;
  }
}

export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/** `checkSize` is called with what the header says, before anything is decoded. Throws `FormatError`. */
export async function decodeJpeg(
  bytes: Uint8Array,
  channels: 1 | 3,
  checkSize: (height: number, width: number) => void,
): Promise<Pixels> {
  const { height, width } = readHeader(bytes);
  checkSize(height, width);
  const instance = await liveInstance();
  const { codec, messages } = instance;
  messages.length = 0;
  let image: ReturnType<Codec["decode"]>;
  try {
    image = codec.decode(bytes, false);
  } catch (cause) {
    instance.dead = true;
    current = undefined;
    throw new FormatError(`JPEG: ${messages.at(-1) ?? "cannot be decoded"}`, { cause });
  }
  const damage = messages.find(isDamage);
  if (damage) throw new FormatError(`JPEG: ${damage}`);
  return fromRgba(image.data, height, width, channels);
}

/**
 * libjpeg goes on after damage, filling the rest with grey, and says so once. Stray bytes between segments, which real
 * data sets are full of, lose nothing.
 */
function isDamage(message: string): boolean {
  return (
    message.startsWith("Premature end") || (message.startsWith("Corrupt") && !message.includes("extraneous bytes"))
  );
}

/** Size of the image; throws if there is none, if it is of a kind that is not supported, or if its end is missing. */
function readHeader(bytes: Uint8Array): { height: number; width: number } {
  const truncated = (what: string) => new FormatError(`JPEG: truncated, the file ends ${what}`);
  let size: { height: number; width: number } | undefined;
  for (let at = 2; ; ) {
    while (at < bytes.length && bytes[at] !== 0xff) at++;
    while (bytes[at] === 0xff) at++;
    const marker = bytes[at++];
    if (marker === undefined || at + 2 > bytes.length) throw truncated("inside its header");
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue; // these stand alone
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
      // Behind here 0xff 0xd9 can only be the end-of-image marker: the same bytes inside pixel data are escaped.
      for (let end = bytes.length - 2; end > at; end--) if (bytes[end] === 0xff && bytes[end + 1] === 0xd9) return size;
      throw truncated("without an end-of-image marker");
    }
    at += length;
  }
}

/** SOF0..SOF15: 0xc0 to 0xcf without DHT, JPG and DAC. */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

function fromRgba(rgba: Uint8ClampedArray, height: number, width: number, channels: 1 | 3): Pixels {
  const out = allocPixels(height, width, channels);
  for (let i = 0, to = 0; i < rgba.length; i += 4) {
    if (channels === 1) {
      out.data[to++] = luma(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!);
    } else {
      out.data[to++] = rgba[i]!;
      out.data[to++] = rgba[i + 1]!;
      out.data[to++] = rgba[i + 2]!;
    }
  }
  return out;
}
