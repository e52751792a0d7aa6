/** JPEG to pixels, by libjpeg compiled to WASM (@jsquash/jpeg): the same bytes as Pillow gives, on every machine. */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import factory from "@jsquash/jpeg/codec/dec/mozjpeg_dec.js";
import { FormatError } from "../errors.js";
import type { RawImage } from "./raw.js";

interface Codec {
  /** RGBA of a whole image. Throws emscripten's ExitStatus when libjpeg gives up, having printed why. */
  decode(bytes: Uint8Array, applyOrientation: boolean): RawImage;
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

async function compile(): Promise<WebAssembly.Module> {
  // Not import.meta.resolve, which Node has since 20.6.
  const path = createRequire(import.meta.url).resolve("@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm");
  return WebAssembly.compile(await readFile(path));
}

async function start(): Promise<Instance> {
  compiled ??= compile();
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

/** RGBA as stored, of a file whose header `readJpegHeader` accepts. Throws `FormatError`. */
export async function decodeJpeg(bytes: Uint8Array): Promise<RawImage> {
  const instance = await liveInstance();
  const { codec, messages } = instance;
  messages.length = 0;
  let image: RawImage;
  try {
    image = codec.decode(bytes, false);
  } catch (cause) {
    instance.dead = true;
    current = undefined;
    throw new FormatError(`JPEG: ${messages.at(-1) ?? "cannot be decoded"}`, { cause });
  }
  const damage = messages.find(isDamage);
  if (damage) throw new FormatError(`JPEG: ${damage}`);
  return image;
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
