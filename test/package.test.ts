/** The package as users get it: packed, installed into an empty project, used. Works on what is built, in the clone it runs in. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { encode as encodePng } from "fast-png";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { encodeModel } from "../src/io/model-file.js";
import { modelPath, shippedModels } from "../src/io/model-file-node.js";
import { temporaryFolder } from "./data/support.js";
import { bundle } from "./support/bundle.js";
import { sampleModel } from "./support/model.js";

const root = process.cwd();
const built = existsSync(join(root, "package.json")) && existsSync(join(root, "dist/src/index.js"));
const npm = { shell: process.platform === "win32" };

/** A shirt, more or less: light on black, 28×28 pixels, grey. */
function drawing(): Uint8Array {
  const inside = (x: number, y: number) => (y > 3 && y < 25 && x > 8 && x < 19) || (y > 3 && y < 12 && x > 2 && x < 25);
  const data = Uint8Array.from({ length: 28 * 28 }, (_, i) => (inside(i % 28, Math.floor(i / 28)) ? 200 : 0));
  return encodePng({ data, width: 28, height: 28, channels: 1, depth: 8 });
}

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

  it("takes a model that lies in its folder of models by name, in every verb and in load", async (t) => {
    if (offline) return t.skip(offline);
    const models = join(installed, "models");
    const model = join(models, "sample.safetensors");
    const before = existsSync(models);
    mkdirSync(models, { recursive: true });
    t.after(() => rmSync(before ? model : models, { recursive: true }));
    const bytes = encodeModel(await sampleModel());
    writeFileSync(model, bytes);
    writeFileSync(join(app, "drawn.png"), drawing());
    writeFileSync(join(app, "sample"), "no model");
    const dsnet = (...args: string[]) => run(process.execPath, [join(installed, "dist/src/cli/main.js"), ...args], app);
    const predicted = async (name: string) => {
      const { ms: _, ...rest } = JSON.parse(await dsnet("predict", "drawn.png", "--model", name, "--json"));
      return rest;
    };
    const byName = await predicted("sample");
    assert.equal(byName.labels.length, 5);
    assert.deepEqual(byName, await predicted(model));
    assert.match(await dsnet("inspect", "sample"), /^ds_mbnet_28: /);
    assert.equal(JSON.parse(await dsnet("benchmark", "sample", "--rounds", "1", "--json")).model, "sample");
    await dsnet("export", "sample", "-o", "copy.safetensors");
    assert.deepEqual(new Uint8Array(readFileSync(join(app, "copy.safetensors"))), bytes);
    assert.match(await dsnet("predict", "--help"), /model file, or one that comes with dsnet:(\s+[\w-]+,)*\s+sample\b/);

    const refusals: [args: string[], reason: RegExp][] = [
      [
        ["predict", "drawn.png", "--model", "smaple"],
        /There is no model smaple: expected a file's path, or one of .*sample/,
      ],
      [["predict", "drawn.png", "--model", "./sample"], /ERR_FORMAT\]: \.\/sample: /],
      [["predict", "drawn.png", "--model", "sample.safetensors"], /There is no file sample\.safetensors/],
      [["val", "smaple", "--data", "mnist"], /There is no model smaple/],
      [["inspect", "smaple"], /expected a model file or one of .*sample, ds_mbnet, /],
      [["benchmark", "smaple"], /expected a model file or one of .*sample, ds_mbnet, /],
      [["export", "sample", "-o", model], /expected another file than the model/],
      [["calibrate", "sample", "--data", "mnist"], /output: expected a file to write, sample comes with dsnet/],
    ];
    for (const [args, reason] of refusals) await assert.rejects(dsnet(...args), reason);

    writeFileSync(
      join(app, "named.js"),
      `import { load } from "dsnet";
      const network = await load("sample");
      const [{ labels }] = await network.classify("drawn.png");
      network.dispose();
      console.log(labels[0].label);`,
    );
    assert.equal(await run(process.execPath, ["named.js"], app), `${byName.labels[0].label}\n`);
  });

  it("brings the shipped models, each with its card, and predicts with them", async (t) => {
    if (offline) return t.skip(offline);
    if (shippedModels().length === 0) return t.skip("no model is shipped yet");
    writeFileSync(join(app, "drawn.png"), drawing());
    for (const name of shippedModels()) {
      for (const file of [`${name}.safetensors`, `${name}.md`]) {
        assert.deepEqual(
          readFileSync(join(installed, "models", file)),
          readFileSync(join(modelPath(name), "..", file)),
        );
      }
      const output = await run(
        "npx",
        ["--no-install", "dsnet", "predict", "drawn.png", "--model", name, "--json"],
        app,
        npm,
      );
      const { labels, route } = JSON.parse(output);
      assert.equal(labels.length, 5);
      assert.equal(route.length, 1);
    }
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
