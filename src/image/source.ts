/**
 * What differs between Node and a browser on the way to pixels. `#source` in package.json's imports picks source-node.ts or
 * source-web.ts.
 */
import type { Pixels } from "./pixels.js";

export interface Source {
  /** A file's bytes: a path in Node, a URL in the browser. */
  read(place: string): Promise<Uint8Array>;
  /** A model file's bytes: in Node also by the name of a model that comes with the package. */
  readModel(place: string): Promise<Uint8Array>;
  /** A zlib stream that lies in these pieces. Throws `RangeError` as soon as it gives more than `limit` bytes. */
  inflate(pieces: readonly Uint8Array[], limit: number): Promise<Uint8Array>;
  /** Upright pixels of a file that `readJpegHeader` accepts; a broken one is a `FormatError`. */
  decodeJpeg(bytes: Uint8Array, channels: 1 | 3, orientation: number): Promise<Pixels>;
}
