import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { inPage, ISOLATED, launch, skip } from "../support/chromium.js";

const entry = fileURLToPath(new URL("../../src/backend/open.js", import.meta.url));
/** File name → code of the bundle a browser would get. */
async function bundle(): Promise<Map<string, string>> {
  const result = await build({
    configFile: false,
    logLevel: "silent",
    root: fileURLToPath(new URL(".", import.meta.url)),
    build: { write: false, target: "es2022", lib: { entry, formats: ["es"], fileName: "open" } },
  });
  assert.ok(Array.isArray(result));
  const files = new Map<string, string>();
  for (const { output } of result) {
    for (const file of output) if (file.type === "chunk") files.set(file.fileName, file.code);
  }
  return files;
}

const files = await bundle();

describe("the browser's bundle", () => {
  it("imports no Node module", () => {
    assert.ok(files.size >= 3); // the two WASM modules are loaded apart, on demand
    for (const [name, code] of files) {
      assert.doesNotMatch(code, /["'`]node:|__vite-browser-external|require\(/, name);
    }
  });
});

/** Opens a backend in a page with these headers, and tells what it became. */
function openIn(browser: Browser, headers: Record<string, string>) {
  const entryName = [...files.keys()].find((name) => name.startsWith("open"))!;
  const pages = new Map([...files, ["index.html", "<!doctype html>"]]);
  return inPage(browser, pages, headers, (page) =>
    page.evaluate(async (url) => {
      const { openBackend } = await import(url);
      const backend = await openBackend({ threads: 2 });
      const x = backend.arena.alloc(2 ** 24);
      const sums: number[] = [];
      for (let round = 1; round <= 50; round++) {
        backend.call({ op: "fill", x, count: 2 ** 22, value: round });
        sums.push(backend.f32[x / 4] + backend.f32[x / 4 + 2 ** 22 - 1]);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const { build, threads, notes } = backend;
      backend.dispose();
      return { build, threads, notes, sums };
    }, `/${entryName}`),
  );
}

describe("in Chromium", { skip }, () => {
  let browser: Browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  const sums = Array.from({ length: 50 }, (_, i) => 2 * (i + 1));

  it("a cross-origin isolated page runs two threads", async () => {
    const notes = ["wasm-simd128, 2 threads", "native: browsers run no native code"];
    assert.deepEqual(await openIn(browser, ISOLATED), { build: "wasm-simd128", threads: 2, notes, sums });
  });

  it("any other page runs one, and a note says why", async () => {
    const result = await openIn(browser, {});
    assert.deepEqual([result.build, result.threads, result.sums], ["wasm-simd128", 1, sums]);
    assert.match(result.notes.join("\n"), /one thread: .*COOP and COEP/);
  });
});
