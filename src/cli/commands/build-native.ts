/** `dsnet build-native`: compiles the native kernels for this machine, into the user's cache. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";

export function define(command: Command): void {
  command
    .addHelpText("after", "\nNeeds a C compiler (cc, gcc or clang; or CC). Without one the WebAssembly kernels serve.")
    .action(() => {
      // A script of its own, so that a clone can run it before anything is compiled.
      const script = fileURLToPath(new URL("../../../../scripts/build-native.mjs", import.meta.url));
      process.exitCode = spawnSync(process.execPath, [script], { stdio: "inherit" }).status ?? 1;
    });
}
