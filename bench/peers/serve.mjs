/**
 * What every worker speaks: a line of JSON in, a line of JSON out, one request at a time. Of inference (train-dsnet.mjs tells of
 * training):
 *
 *     {op: "load", net, batch, images}   → {}                  prepares a network; `images` is a file of floats, (N, H, W, C)
 *     {op: "run", net, batch, from, n}   → {ms: [...]}         n calls, on the inputs from number `from` on, round and round
 *     {op: "check", net, batch}          → {logits: [[...]]}   of every input
 *
 * An input is `batch` images. A failure answers {error}. pytorch.py does the same in Python, with serve.py.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** `open(net, inputs)`: a function from an input's number to its logits. Inputs are (batch, H, W, C). */
export function serve(open) {
  const loaded = new Map();
  answer({
    async load({ net, batch, images }) {
      const floats = new Float32Array(new Uint8Array(readFileSync(images)).buffer);
      const size = batch * 224 * 224 * 3;
      const inputs = Array.from({ length: floats.length / size }, (_, i) => floats.slice(i * size, (i + 1) * size));
      loaded.set(`${net.name} ${batch}`, { run: await open(net, inputs, batch), count: inputs.length });
      return {};
    },
    async run({ net, batch, from, n }) {
      const { run, count } = loaded.get(`${net.name} ${batch}`);
      const ms = [];
      for (let i = from; i < from + n; i++) {
        const start = performance.now();
        await run(i % count);
        ms.push(performance.now() - start);
      }
      return { ms };
    },
    async check({ net, batch }) {
      const { run, count } = loaded.get(`${net.name} ${batch}`);
      const logits = [];
      for (let i = 0; i < count; i++) logits.push(Array.from(await run(i)));
      return { logits };
    },
  });
}

/** Answers every line of stdin with the function that its `op` names. */
export function answer(requests) {
  createInterface({ input: process.stdin })
    .on("line", async (line) => {
      const request = JSON.parse(line);
      const reply = await requests[request.op](request).catch((error) => ({ error: error.message ?? String(error) }));
      process.stdout.write(`${JSON.stringify(reply)}\n`);
    })
    .on("close", () => process.exit());
}

/** (N, H, W, C) → (N, C, H, W) */
export function planes(images, n) {
  const pixels = 224 * 224;
  const out = new Float32Array(images.length);
  for (let i = 0; i < n; i++) {
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < 3; c++) out[(i * 3 + c) * pixels + p] = images[(i * pixels + p) * 3 + c];
    }
  }
  return out;
}
