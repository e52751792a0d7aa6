/** The package as users get it: packed, installed into an empty project, used. Works on what is built, in the clone it runs in. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { encodeModel } from "../src/io/model-file.js";
import { temporaryFolder } from "./data/support.js";
import { bundle } from "./support/bundle.js";
import { sampleModel } from "./support/model.js";

const root = process.cwd();
const built = existsSync(join(root, "package.json")) && existsSync(join(root, "dist/src/index.js"));
const npm = { shell: process.platform === "win32" };

/** A command's output; what it said where it fails. */
async function run(command: string, args: string[], cwd: string, options: object = {}): Promise<string> {
  try {
    return (await promisify(execFile)(command, args, { cwd, timeout: 60_000, ...options })).stdout;
  } catch (error) {
    const { stdout, stderr, message } = error as Error & { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(" ")}: ${message}\n${stdout}${stderr}`);
  }
}

describe("the package", { skip: built ? false : "run from the root of a built clone" }, () => {
  const folder = temporaryFolder();
  const app = join(folder, "app");
  const installed = join(app, "node_modules", "dsnet");
  let tarball = "";
  let offline = "";

  before(async () => {
    const output = await run("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], root, npm);
    tarball = join(folder, JSON.parse(output)[0].filename);
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), '{ "type": "module" }');
    const flags = ["--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0", "--loglevel=error"];
    await run("npm", ["install", ...flags, tarball], app, npm).catch((error) => {
      if (!/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED/.test(error.message)) throw error;
      offline = "no package registry can be reached";
    });
  });

  it("installs into an empty folder and works there, all entries and the command", async (t) => {
    if (offline) return t.skip(offline);
    writeFileSync(join(app, "model.safetensors"), encodeModel(await sampleModel()));
    writeFileSync(
      join(app, "use.js"),
      `import { load } from "dsnet";
      import { train } from "dsnet/train";
      import { openData } from "dsnet/data";
      const network = await load("model.safetensors");
      const [{ labels }] = await network.classify({ data: new Uint8Array(28 * 28), width: 28, height: 28 });
      network.dispose();
      console.log(labels.length, typeof train, typeof openData);`,
    );
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    assert.equal(await run(process.execPath, ["use.js"], app), "5 function function\n");
    assert.equal(await run("npx", ["--no-install", "dsnet", "--version"], app, npm), `${version}\n`);
  });

  it("has types that a strict user of the browser's types compiles against", async (t) => {
    if (offline) return t.skip(offline);
    writeFileSync(
      join(app, "user.ts"),
      `import { type Classification, load } from "dsnet";
      export async function first(image: ImageData): Promise<string | undefined> {
        const network = await load("/model.safetensors", { threads: 2 });
        const results: Classification[] = await network.classify(image, { topK: 1, width: "largest" });
        return results[0]?.labels[0]?.label;
      }`,
    );
    const flags =
      "--noEmit --strict --module nodenext --target es2022 --lib es2022,dom,esnext.disposable --skipLibCheck false";
    await run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...flags.split(" "), "user.ts"], app);
  });

  it("passes publint", async (t) => {
    if (offline) return t.skip(offline);
    const { messages, pkg } = await publint({ pkgDir: installed, pack: false, strict: true });
    assert.deepEqual(
      messages.map((message) => formatMessage(message, pkg!, { color: false })),
      [],
    );
  });

  it("passes attw for ESM", async () => {
    const attw = join(root, "node_modules/@arethetypeswrong/cli/dist/index.js");
    await run(process.execPath, [attw, tarball, "--profile", "esm-only"], root);
  });
});

describe("what a browser downloads", () => {
  it("is at most 60 KB of script, zipped, and 200 KB of kernels", async () => {
    let script = 0;
    const modules: number[] = [];
    for (const [path, content] of await bundle()) {
      if (!path.endsWith(".js")) continue;
      const kernels = /["'`](AGFzb[\w+/=]+)["'`]/.exec(String(content))?.[1]; // base64 of "\0asm"
      if (kernels === undefined) script += gzipSync(content).length;
      else modules.push(Buffer.from(kernels, "base64").length);
    }
    assert.equal(modules.length, 2); // one of them is fetched
    for (const bytes of modules) assert.ok(bytes > 10_000 && bytes < 200_000, `a WASM module of ${bytes} bytes`);
    assert.ok(script > 10_000 && script < 60_000, `${script} bytes of script`);
  });
});
