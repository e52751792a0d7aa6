/**
 * `npm test`: sets up (which checks the types), lints, runs the tests. Arguments choose test files by a part of their path. Says what
 * failed and what was skipped and why, then one line of counts.
 */
import { spawnSync } from "node:child_process";
import { relative } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { filesBelow, setup } from "./setup.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root); // tests name files from the clone's root
// Test files inherit this (what they start does not). A compiler thread that asks for a collection while the process ends waits for the main thread, and that
// for it (nodejs/node#54918): a file whose tests had all passed hung, one time in twenty on a busy machine.
process.execArgv.push("--no-concurrent-recompilation");
const counts = { passed: 0, failed: 0, skipped: 0 };

function failed(name, details) {
  counts.failed++;
  console.log(`FAILED  ${name}\n${details.replace(/^/gm, "    ")}\n`);
}

async function types() {
  try {
    await setup();
    counts.passed++;
    return true;
  } catch (error) {
    failed("set-up", error.message);
    return false;
  }
}

function lint() {
  const biome = ["node_modules/@biomejs/biome/bin/biome", "check", "--assist-enabled=false", "."];
  const { status, stdout, stderr } = spawnSync(process.execPath, biome, { cwd: root, encoding: "utf8" });
  if (status === 0) counts.passed++;
  else failed("lint", stderr + stdout);
}

async function tests() {
  const chosen = process.argv.slice(2);
  const files = filesBelow("dist/test", ".test.js").filter(
    (file) => chosen.length === 0 || chosen.some((part) => file.includes(part)),
  );
  if (files.length === 0) {
    failed("tests", `no file below dist/test has ${chosen.join(" or ")} in its name`);
    return;
  }
  const path = []; // names of the suites around the test that was last begun
  const events = run({ files: files.map((file) => `${root}${file}`), concurrency: 2, timeout: 300_000 });
  const title = ({ file, name, nesting }) =>
    [relative(`${root}dist`, file ?? "").replace(/\.js$/, ""), ...path.slice(0, nesting), name].join(" > ");
  events.on("test:start", ({ name, nesting }) => {
    path[nesting] = name;
  });
  events.on("test:pass", (test) => {
    const skip = test.skip ?? test.todo;
    if (skip !== undefined) {
      counts.skipped++;
      console.log(`skipped ${title(test)}${typeof skip === "string" ? `: ${skip}` : ""}`);
    } else if (test.details.type !== "suite") {
      counts.passed++;
    }
  });
  events.on("test:fail", (test) => {
    const { error, type } = test.details;
    if (type === "suite" && error.failureType === "subtestsFailed") return;
    failed(title(test), inspect(error.cause ?? error));
  });
  events.on("test:stderr", ({ message }) => process.stderr.write(message));
  await new Promise((resolve) => events.on("end", resolve).resume());
}

if (await types()) {
  lint();
  await tests();
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed > 0 ? 1 : 0);
