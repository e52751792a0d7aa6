/** The package as a browser gets it. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { temporaryFolder } from "../data/support.js";

/** The nearest folder above with a package.json: the package that these tests are compiled in. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

/** A user's page that imports the package by its name, bundled. Path → content. */
export async function bundle(): Promise<Map<string, string | Uint8Array>> {
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
