import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { encode as encodePng } from "fast-png";
import type { Browser } from "playwright-core";
import { type Classification, load } from "../../src/index.js";
import { encodeModel } from "../../src/io/model-file.js";
import { Philox } from "../../src/random/philox.js";
import { jpeg } from "../data/support.js";
import { exif, withExif } from "../image/exif.js";
import { bundle } from "../support/bundle.js";
import { ISOLATED, inPage, launch, skip } from "../support/chromium.js";
import { sampleModel, stripes } from "../support/model.js";

/** Labels, routes and costs; of the scores what does not hang on the engine's own Math.exp. */
const stable = (results: readonly Classification[]) =>
  results.map(({ labels, route, madds }) => ({
    labels: labels.map(({ label, score }) => `${label} ${score.toFixed(12)}`),
    route,
    madds,
  }));

const WIDTHS = ["dynamic", "largest", 0, 1, 2, 3, 4] as const;

// As strict as it can be: no inline script, no eval.
const CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";
const strict = { "content-security-policy": CSP };
const threaded = { ...ISOLATED, "content-security-policy": `${CSP}; worker-src blob:` };

describe("in Chromium", { skip }, async () => {
  let browser: Browser;
  const files = new Map<string, string | Uint8Array>();
  const images = stripes(5, 11);
  const [first] = images as [(typeof images)[0]];
  const size = { width: 28, height: 28, depth: 8 } as const;
  const png = encodePng({ ...size, data: Uint8Array.from(first.data), channels: 1 });
  // Transparent all over: what a canvas would make of it is black.
  const clear = Uint8Array.from({ length: 28 * 28 * 4 }, (_, i) => (i % 4 === 3 ? 0 : first.data[i >> 2]!));
  const encoded = [png, encodePng({ ...size, data: clear, channels: 4 })];
  for (const orientation of [1, 6]) encoded.push(withExif(await jpeg(1, 28, 35), exif(orientation, true)));
  const random = new Philox(0, "input");
  const input = Float32Array.from({ length: 3 * 28 * 28 }, () => random.normal());
  /** What Node says on WASM: bits of the logits by width, and what it makes of the images. */
  const expected = { logits: [] as number[][], classified: [] as ReturnType<typeof stable> };

  before(async () => {
    const model = encodeModel(await sampleModel());
    const network = await load(model, { device: "wasm", threads: 1 });
    expected.logits = WIDTHS.map((width) => [...new Uint32Array(network.run(input, { width }).buffer)]);
    expected.classified = stable(await network.classify([...encoded, ...images]));
    network.dispose();
    for (const [path, content] of await bundle()) files.set(path, content);
    files.set("model.safetensors", model);
    browser = await launch();
  });
  after(() => browser?.close());

  /** Loads the model in a page with these headers and lets it work. */
  function classifyIn(headers: Record<string, string>) {
    const given = {
      input: [...input],
      encoded: encoded.map((bytes) => [...bytes]),
      images: images.map(({ data, width, height }) => ({ data: [...data], width, height })),
      widths: [...WIDTHS],
    };
    return inPage(browser, files, headers, async (page) => {
      const errors: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") errors.push(message.text());
      });
      const result = await page.evaluate(async ({ input, encoded, images, widths }) => {
        const { load } = (globalThis as unknown as { dsnet: typeof import("../../src/index.js") }).dsnet;
        const network = await load("/model.safetensors", { threads: 2 });
        const logits = widths.map((width) => [
          ...new Uint32Array(network.run(Float32Array.from(input), { width }).buffer),
        ]);
        const raw = images.map(({ data, ...size }) => ({ data: Uint8Array.from(data), ...size }));
        const classified: Classification[] = await network.classify([
          ...encoded.map((bytes) => Uint8Array.from(bytes)),
          ...raw,
        ]);
        await new Promise((resolve) => setTimeout(resolve, 100)); // for what workers have to complain of
        const { device } = network;
        network.dispose();
        return { logits, classified, device };
      }, given);
      return { ...result, classified: stable(result.classified), errors };
    });
  }

  it("the bundle holds nothing of Node", () => {
    assert.ok([...files.keys()].filter((path) => path.endsWith(".js")).length >= 3); // the WASM modules apart, on demand
    for (const [path, content] of files) {
      if (path.endsWith(".js")) assert.doesNotMatch(String(content), /["'`]node:|__vite-browser-external/, path);
    }
  });

  it("a page under a strict policy gets Node's bits and routes on one thread", async () => {
    const { logits, classified, device, errors } = await classifyIn(strict);
    assert.deepEqual([device.name, device.threads, errors], ["wasm", 1, []]);
    assert.match(device.notes.join("\n"), /COOP and COEP/);
    assert.deepEqual(logits, expected.logits);
    assert.deepEqual(classified, expected.classified);
  });

  it("an isolated page that allows workers gets them on two threads", async () => {
    const { logits, classified, device, errors } = await classifyIn(threaded);
    assert.deepEqual([device.name, device.threads, errors], ["wasm", 2, []]);
    assert.doesNotMatch(device.notes.join("\n"), /did not start/);
    assert.deepEqual(logits, expected.logits);
    assert.deepEqual(classified, expected.classified);
  });

  it("a budget in ms is measured in the page once, and remembered", async () => {
    const refusals = await inPage(browser, files, strict, (page) =>
      page.evaluate(async () => {
        const { load } = (globalThis as unknown as { dsnet: typeof import("../../src/index.js") }).dsnet;
        const refusal = async () => {
          const network = await load("/model.safetensors");
          try {
            network.run(new Float32Array(28 * 28), { budget: { ms: 1e9 } });
            return await network.classify([], { budget: { ms: 0 } }).then(String, (error: Error) => error.message);
          } finally {
            network.dispose();
          }
        };
        return [await refusal(), await refusal(), `${localStorage.length}`];
      }),
    );
    assert.match(refusals[0]!, /^budget: 0 ms cannot be reached; this model takes [\d.]+ to [\d.]+ ms here$/);
    assert.deepEqual(refusals.slice(1), [refusals[0], "1"]); // not two measurements, which would differ
  });

  it("an isolated page that forbids workers gets them too, and a note says why on one thread", async () => {
    const { logits, classified, device } = await classifyIn({ ...ISOLATED, ...strict });
    assert.match(device.notes.join("\n"), /thread 1 did not start: .*polic/);
    assert.deepEqual(logits, expected.logits);
    assert.deepEqual(classified, expected.classified);
  });
});
