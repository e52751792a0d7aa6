/** What of a browser's way to pixels runs in Node too. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deflateSync } from "node:zlib";
import { source as node } from "../../src/image/source-node.js";
import { source as web } from "../../src/image/source-web.js";
import { Philox } from "../../src/random/philox.js";

const random = new Philox(9, "inflate");
const data = Uint8Array.from({ length: 300_000 }, () => random.int(4));
const deflated = deflateSync(data);
const pieces = [0, 1, 2, 3].map((i) => deflated.subarray((i * deflated.length) >> 2, ((i + 1) * deflated.length) >> 2));

for (const [name, { inflate }] of Object.entries({ node, web })) {
  describe(`inflate, ${name}`, () => {
    it("joins the pieces of a stream, up to the limit and no further", async () => {
      for (const limit of [data.length, data.length + 1000]) {
        assert.deepEqual(Uint8Array.from(await inflate(pieces, limit)), data);
      }
      await assert.rejects(inflate(pieces, data.length - 1), RangeError);
      await assert.rejects(inflate(pieces, 10), RangeError);
    });

    // Node's own DecompressionStream lets them pass, a browser's must not.
    it("bytes behind the end of the stream are damage", { skip: name === "web" && "runs in Node here" }, async () => {
      await assert.rejects(inflate([...pieces, Uint8Array.of(0, 0)], data.length), /bytes follow its end/);
    });

    it("damage is an error, but no RangeError", async () => {
      for (const bad of [[], [data], pieces.slice(1), pieces.slice(0, 3)]) {
        await assert.rejects(inflate(bad, data.length), (error) => !(error instanceof RangeError));
      }
    });
  });
}
