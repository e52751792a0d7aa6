import assert from "node:assert/strict";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { encode as encodePng } from "fast-png";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { type Classification, load } from "../../src/index.js";
import { encodeModel } from "../../src/io/model-file.js";
import { Philox } from "../../src/random/philox.js";
import { temporaryFolder } from "../data/support.js";
import { inPage, ISOLATED, launch, skip } from "../support/chromium.js";
import { sampleModel, stripes } from "../support/model.js";

/** The nearest folder above with a package.json: the package that these tests are compiled in. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

/** A user's page that imports the package by its name, bundled. Path → content. */
async function bundle(): Promise<Map<string, string | Uint8Array>> {
  const root = temporaryFolder();
  mkdirSync(join(root, "node_modules"));
  symlinkSync(packageRoot(), join(root, "node_modules", "dsnet"), "junction");
  writeFileSync(join(root, "index.html"), '<!doctype html><script type="module" src="/main.js"></script>');
  writeFileSync(join(root, "main.js"), 'import * as dsnet from "dsnet"; globalThis.dsnet = dsnet;');
  const result = await build({
    configFile: false,
    logLevel: "silent",
    root,
    build: { write: false, target: "es2022" },
  });
  assert.ok("output" in result);
  return new Map(result.output.map((file) => [file.fileName, file.type === "chunk" ? file.code : file.source]));
}

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

describe("in Chromium", { skip }, () => {
  let browser: Browser;
  const files = new Map<string, string | Uint8Array>();
  const images = stripes(5, 11);
  const [first] = images as [(typeof images)[0]];
  const png = encodePng({ data: Uint8Array.from(first.data), width: 28, height: 28, channels: 1, depth: 8 });
  const random = new Philox(0, "input");
  const input = Float32Array.from({ length: 3 * 28 * 28 }, () => random.normal());
  /** What Node says on WASM: bits of the logits by width, and the PNG's classification. */
  const expected = { logits: [] as number[][], classified: [] as ReturnType<typeof stable> };

  before(async () => {
    const model = encodeModel(await sampleModel());
    const network = await load(model, { device: "wasm", threads: 1 });
    expected.logits = WIDTHS.map((width) => [...new Uint32Array(network.run(input, { width }).buffer)]);
    expected.classified = stable(await network.classify([png, ...images]));
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
      png: [...png],
      images: images.map(({ data, width, height }) => ({ data: [...data], width, height })),
      widths: [...WIDTHS],
    };
    return inPage(browser, files, headers, async (page) => {
      const errors: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") errors.push(message.text());
      });
      const result = await page.evaluate(async ({ input, png, images, widths }) => {
        const { load } = (globalThis as unknown as { dsnet: typeof import("../../src/index.js") }).dsnet;
        const network = await load("/model.safetensors", { threads: 2 });
        const logits = widths.map((width) => [
          ...new Uint32Array(network.run(Float32Array.from(input), { width }).buffer),
        ]);
        const raw = images.map(({ data, ...size }) => ({ data: Uint8Array.from(data), ...size }));
        const classified: Classification[] = await network.classify([Uint8Array.from(png), ...raw]);
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

  it("an isolated page that forbids workers gets them too, and a note says why on one thread", async () => {
    const { logits, classified, device } = await classifyIn({ ...ISOLATED, ...strict });
    assert.match(device.notes.join("\n"), /thread 1 did not start: .*polic/);
    assert.deepEqual(logits, expected.logits);
    assert.deepEqual(classified, expected.classified);
  });
});
