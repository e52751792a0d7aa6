/**
 * Builds the two WASM modules with the clang that npm brings, and writes them as TypeScript modules (base64) beside the backend
 * that loads them. Does nothing when neither the sources nor this script changed.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { kernelsHash } from "./build-native.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const kernels = join(root, "kernels");
const generated = join(root, "src", "backend", "generated");

const FLAGS = ["--target=wasm32", "-std=gnu11", "-nostdlib", "-ffreestanding", "-O3", "-msimd128", "-mbulk-memory"];
const MATHS = ["-ffp-contract=off", "-fno-math-errno"];
// The arena begins at __heap_base; below it lie the stack, which traps when it overflows, and a few constants.
const LINK = [
  "--no-entry",
  "--import-memory",
  "--stack-first",
  "-z,stack-size=131072",
  "--export=__heap_base",
  "--strip-all",
];
const MODULES = {
  "wasm-simd": { flags: [], link: ["--max-memory=4294967296"] },
  "wasm-threads": {
    flags: ["-matomics"],
    link: ["--shared-memory", "--max-memory=4294967296", "--export=__stack_pointer"],
  },
};

async function compile({ flags, link }) {
  const { runClang, runLLVM } = await import("@yowasp/clang");
  await runLLVM(null, {}, { fetchProgress: () => {} }); // loads itself, without its progress lines
  const files = {};
  for (const file of readdirSync(kernels)) {
    if (/\.[ch]$/.test(file)) files[file] = readFileSync(join(kernels, file), "utf8");
  }
  const linker = [...LINK, ...link].map((flag) => `-Wl,${flag}`);
  let messages = "";
  const collect = (bytes) => {
    if (bytes) messages += Buffer.from(bytes).toString();
  };
  try {
    const args = ["clang", ...FLAGS, ...MATHS, ...flags, ...linker, "wasm.c", "-o", "out.wasm"];
    const output = await runClang(args, files, { stdout: collect, stderr: collect });
    return output["out.wasm"];
  } catch (error) {
    throw new Error(`clang failed on the kernels:\n${messages || error.message}`);
  }
}

/** Returns whether anything was built. */
export async function buildWasm() {
  const hash = kernelsHash();
  const key = createHash("sha256")
    .update(hash)
    .update(readFileSync(fileURLToPath(import.meta.url)))
    .digest("hex");
  const stamp = join(generated, "kernels-hash.ts");
  const header = `// Written by scripts/build-wasm.mjs, key ${key}\n// biome-ignore-all format: generated\n`;
  if (existsSync(stamp) && readFileSync(stamp, "utf8").startsWith(header)) return false;
  mkdirSync(generated, { recursive: true });
  for (const [name, module] of Object.entries(MODULES)) {
    const bytes = await compile(module);
    writeFileSync(
      join(generated, `${name}.ts`),
      `${header}export default "${Buffer.from(bytes).toString("base64")}";\n`,
    );
  }
  writeFileSync(stamp, `${header}export const KERNELS_HASH = "${hash}";\n`);
  return true;
}
