/**
 * Builds the native addon with the C compiler at hand: the kernels once per instruction set, one that the compiler lacks is
 * left out. Needs nothing but Node, a compiler and node_api.h; no compiler is no error, WASM serves then.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const kernels = join(root, "kernels");

const FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", "-pthread"];
const AVX2 = ["-mavx2", "-mfma"];
const X64 = {
  avx512: [...AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
  avx2: AVX2,
};

/** Identifies the kernels' sources and how they are built: an addon of another hash is never loaded. */
export function kernelsHash() {
  const hash = createHash("sha256").update(readFileSync(fileURLToPath(import.meta.url)));
  for (const file of readdirSync(kernels).sort()) {
    if (/\.[ch]$/.test(file)) hash.update(file).update(readFileSync(join(kernels, file)));
  }
  return hash.digest("hex").slice(0, 16);
}

/** A clone builds into itself, an installed package into the user's cache. src/backend/platform-node.ts looks in both. */
function addonFolder() {
  if (existsSync(join(root, "tsconfig.json"))) return join(root, "build");
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "dsnet");
}

function findHeaders() {
  const require = createRequire(import.meta.url);
  const candidates = [join(dirname(process.execPath), "..", "include", "node")];
  try {
    candidates.unshift(require("node-api-headers").include_dir);
  } catch {
    // Not installed: Node's own may be there.
  }
  return candidates.find((folder) => existsSync(join(folder, "node_api.h")));
}

async function findCompiler() {
  for (const name of process.env.CC ? [process.env.CC] : ["cc", "gcc", "clang"]) {
    if (await succeeds(name, ["--version"])) return name;
  }
  return null;
}

const succeeds = (command, args) =>
  run(command, args).then(
    () => true,
    () => false,
  );

/**
 * Returns `{ file, built }`, or `{ missing }`: what the build lacks, in words. Throws where the compiler fails on our sources.
 * Options: `force` builds even if the file is there.
 */
export async function buildNative({ force = false } = {}) {
  const folder = addonFolder();
  const file = join(folder, `dsnet-${kernelsHash()}-${process.platform}-${process.arch}.node`);
  if (existsSync(file) && !force) return { file, built: false };
  if (process.platform === "win32") return { missing: "no native build for Windows" };
  const compiler = await findCompiler();
  if (!compiler) return { missing: `no C compiler (${process.env.CC ? `CC=${process.env.CC}` : "cc, gcc or clang"})` };
  const headers = findHeaders();
  if (!headers) return { missing: "no node_api.h (install the npm package node-api-headers)" };

  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(join(folder, "native-"));
  try {
    const variants = { baseline: [] };
    for (const [isa, flags] of Object.entries(process.arch === "x64" ? X64 : {})) {
      if (await succeeds(compiler, [...flags, "-fsyntax-only", "-x", "c", "/dev/null"])) variants[isa] = flags;
    }
    const defines = Object.keys(variants).map((isa) => `-DDSN_${isa.toUpperCase()}`);
    const compile = async (object, source, flags) => {
      const output = join(work, `${object}.o`);
      await run(compiler, [...FLAGS, ...flags, "-c", join(kernels, source), "-o", output]);
      return output;
    };
    const objects = await Promise.all([
      ...Object.entries(variants).map(([isa, flags]) =>
        compile(isa, "kernels.c", [...flags, `-DDSN_SYMBOL=dsn_kernels_${isa}`]),
      ),
      compile("parallel", "parallel.c", []),
      compile("addon", "addon.c", [...defines, `-I${headers}`]),
    ]);
    const link = process.platform === "darwin" ? ["-bundle", "-undefined", "dynamic_lookup"] : ["-shared", "-ldl"];
    const output = join(work, "dsnet.node");
    await run(compiler, ["-pthread", ...objects, ...link, "-o", output]);
    renameSync(output, file);
    return { file, built: true };
  } catch (error) {
    throw new Error(`${compiler} failed on the kernels:\n${error.stderr || error.message}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { file, missing } = await buildNative({ force: true });
  console.log(missing ? `not built: ${missing}; the WASM build serves` : file);
}
