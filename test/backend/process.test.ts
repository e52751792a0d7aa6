import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { backendOptions } from "../support/backends.js";

const open = new URL("../../src/backend/open.js", import.meta.url).href;

/** A module that opens a backend and uses it. */
const use = (options: object) => `
  const { openBackend } = await import(${JSON.stringify(open)});
  const backend = await openBackend(${JSON.stringify(options)});
  const x = backend.arena.alloc(2 ** 22);
  backend.call({ op: "fill", x, count: 2 ** 20, value: 2 });
  const sum = backend.f32.subarray(x / 4, x / 4 + 2 ** 20).reduce((a, b) => a + b, 0);
`;

function node(source: string, env: Record<string, string> = {}): string {
  return execFileSync(process.execPath, ["--input-type=module", "-e", source], {
    encoding: "utf8",
    env: { ...process.env, ...env },
    timeout: 20000,
  });
}

for (const { name, options } of backendOptions()) {
  describe(name, () => {
    it("lets a process that used threads end by itself", () => {
      assert.equal(node(`${use(options)} console.log(sum);`), "2097152\n");
    });

    it("opens in a worker thread, which can be ended at any time", async () => {
      const source = `${use(options)}
        const { parentPort } = await import("node:worker_threads");
        parentPort.postMessage(sum);
        for (;;) backend.call({ op: "fill", x, count: 2 ** 20, value: 3 });`;
      for (let round = 0; round < 2; round++) {
        const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
        const sum = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
        assert.equal(sum, 2097152);
        await worker.terminate();
      }
    });
  });
}

describe("without a native addon", () => {
  it("WASM runs and a note says why", () => {
    const output = node(`${use({})} console.log(backend.name, sum, backend.notes.join("|"));`, { DSNET_NATIVE: "0" });
    assert.match(output, /^wasm 2097152 wasm-simd128, .*\|native: switched off by DSNET_NATIVE=0\n$/);
  });

  it("asking for it is an error with the reason", () => {
    const source = `import(${JSON.stringify(open)}).then(({ openBackend }) => openBackend({ device: "native" }))
      .catch((error) => console.log(error.code, error.message));`;
    const output = node(source, { DSNET_NATIVE: "0" });
    assert.match(output, /^ERR_BACKEND .*"native".*\nnative: switched off by DSNET_NATIVE=0\n$/);
  });

  const script = "scripts/build-native.mjs";
  it("the build says in one line that there is no compiler", {
    skip: existsSync(script) ? false : `no ${script}`,
  }, () => {
    const output = execFileSync(process.execPath, [script], {
      encoding: "utf8",
      env: { ...process.env, CC: "no-such-compiler" },
    });
    assert.match(output, /^not built: no C compiler \(CC=no-such-compiler\); the WASM build serves\n$/);
  });
});
