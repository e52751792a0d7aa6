/**
 * Makes a clone ready to run: npm packages, WASM modules, native addon, TypeScript. Each step happens only when its inputs changed.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { buildNative } from "./build-native.mjs";
import { buildWasm } from "./build-wasm.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const SOURCES = ["src", "test", "bench"];

/** Files below a folder of the clone, as paths from its root; none if it is not there. */
export function filesBelow(folder, ending) {
  if (!existsSync(join(root, folder))) return [];
  const found = [];
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) found.push(...filesBelow(path, ending));
    else if (path.endsWith(ending)) found.push(path);
  }
  return found.sort();
}

const modified = (path) => (existsSync(join(root, path)) ? statSync(join(root, path)).mtimeMs : 0);

async function step(name, work) {
  const start = performance.now();
  const result = await work();
  if (result) console.log(`${name}: ${result} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}

function installPackages() {
  if (modified("node_modules/.package-lock.json") >= modified("package-lock.json")) return "";
  console.log("packages: npm install ...");
  // Not `npm ci`: that refuses a lock file which lacks the optional packages of other platforms.
  execFileSync("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  return "installed";
}

async function native() {
  if (process.env.DSNET_NATIVE === "0") return "off by DSNET_NATIVE=0, WASM is used";
  const { missing, built } = await buildNative();
  if (missing) return `${missing}, WASM is used`;
  return built ? "built" : "";
}

function typescript() {
  const inputs = [...SOURCES.flatMap((folder) => filesBelow(folder, ".ts")), "tsconfig.json", "package.json"];
  const fingerprint = inputs.map((path) => `${path} ${modified(path)}`).join("\n");
  const stamp = join(root, "dist", ".inputs");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === fingerprint) return "";
  console.log("TypeScript: compiling ...");
  try {
    execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { cwd: root });
  } catch (error) {
    throw new Error(`TypeScript:\n${error.stdout || error.message}`);
  }
  removeOrphans();
  writeFileSync(stamp, fingerprint);
  return "compiled";
}

/** Removes what was compiled from files that are gone, lest an old test runs on. */
function removeOrphans() {
  for (const path of SOURCES.flatMap((folder) => filesBelow(`dist/${folder}`, ".js"))) {
    const stem = path.slice("dist/".length, -".js".length);
    if (existsSync(join(root, `${stem}.ts`))) continue;
    for (const ending of [".js", ".d.ts"]) rmSync(join(root, `dist/${stem}${ending}`), { force: true });
  }
}

export async function setup() {
  await step("packages", installPackages);
  // Work of a minute must not look like a standstill; where all is built already, nothing is said.
  const slow = setTimeout(() => console.log("kernels: compiling ..."), 300);
  await Promise.all([
    step("native addon", native),
    step("WASM modules", async () => ((await buildWasm()) ? "built" : "")),
  ]).finally(() => clearTimeout(slow));
  await step("TypeScript", typescript);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    await setup();
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
