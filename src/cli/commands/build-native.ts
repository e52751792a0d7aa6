/** `dsnet build-native`: compiles the native kernels for this machine, into the user's cache. */
import type { Command } from "commander";
import { BackendError } from "../../errors.js";
import { jsonOption } from "../options.js";
import { Terminal } from "../terminal.js";

interface BuildScript {
  buildNative(options: { force?: boolean }): Promise<{ file: string; built: boolean } | { missing: string }>;
}

export function define(command: Command): void {
  command
    .option("--force", "build again even where it is built")
    .addOption(jsonOption())
    .addHelpText("after", "\nNeeds a C compiler (cc, gcc or clang; or CC). Without one the WebAssembly kernels serve.")
    .action(async ({ force = false, json }: { force?: boolean; json?: boolean }) => {
      const terminal = new Terminal({ json });
      // A script of its own, so that a clone can run it before anything is compiled.
      const script = new URL("../../../../scripts/build-native.mjs", import.meta.url).href;
      const { buildNative } = (await import(script)) as BuildScript;
      const result = await buildNative({ force });
      if ("missing" in result) throw new BackendError(`native kernels were not built: ${result.missing}`);
      terminal.emit(result);
      terminal.print(`${result.built ? "built" : "already built"}  ${result.file}`);
    });
}
