import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as zlib from "node:zlib";
import fc from "fast-check";
import { crc32 } from "../../src/io/crc32.js";

describe("crc32", () => {
  it("gives the published check values", () => {
    for (const [text, value] of [
      ["", 0],
      ["123456789", 0xcbf43926],
      ["IEND", 0xae426082],
    ] as const) {
      assert.equal(crc32(new TextEncoder().encode(text)), value, text);
    }
  });

  // A name that Node 20.0 lacks: looked up, not imported.
  const own = (zlib as { crc32?: (bytes: Uint8Array) => number }).crc32;
  it("equals zlib's on any bytes", { skip: own === undefined && "this Node has no zlib.crc32" }, () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => crc32(bytes) === own!(bytes)));
  });
});
