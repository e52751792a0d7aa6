/** A headless Chromium, where this machine has one, and pages for it from memory. */
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) =>
  existsSync(path),
);

/** For a suite's options. */
export const skip = executablePath ? false : "no Chromium on this machine";

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: executablePath!, args: ["--no-sandbox"] });
}

/** Headers of a page that may share memory between threads. */
export const ISOLATED = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

const TYPES: Record<string, string> = { ".js": "text/javascript", ".html": "text/html" };

/** Serves files by path, "index.html" at the root, each with these headers, and runs `use` in a page of its own at the root. */
export async function inPage<T>(
  browser: Browser,
  files: ReadonlyMap<string, string | Uint8Array>,
  headers: Record<string, string>,
  use: (page: Page) => Promise<T>,
): Promise<T> {
  const server = createServer((request, response) => {
    const path = request.url === "/" ? "index.html" : request.url!.slice(1);
    const content = files.get(path);
    const type = TYPES[extname(path)] ?? "application/octet-stream";
    // 204: the icon that browsers ask for unbidden.
    response
      .writeHead(content === undefined ? (path === "favicon.ico" ? 204 : 404) : 200, {
        "content-type": type,
        ...headers,
      })
      .end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    return await use(page);
  } finally {
    await context.close();
    server.close();
  }
}
