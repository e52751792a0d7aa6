#!/usr/bin/env node
/** The command `dsnet`. */
import { run } from "./program.js";

// The reader of a pipe has gone (`dsnet predict ... | head`): what is left to say reaches nobody. A training goes on.
const outlivesReader = process.argv[2] === "train" || process.argv[2] === "demo";
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    if (!outlivesReader) process.exit();
  });
}

await run(process.argv.slice(2));
