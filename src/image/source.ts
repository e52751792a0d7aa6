/**
 * Where bytes and pixels come from, in Node or the browser. `#source` in package.json's imports picks source-node.ts or
 * source-web.ts.
 */
import type { Pixels } from "./pixels.js";

export interface Source {
  /** A file's bytes: a path in Node, a URL in the browser. */
  read(place: string): Promise<Uint8Array>;
  /** An encoded image's pixels; a broken one is a FormatError. */
  decode(bytes: Uint8Array, channels: 1 | 3): Promise<Pixels>;
}
