/** Imported by every script here: what a user did wrong is told in a line, what we did wrong with its stack. */
import { DsnetError } from "../src/errors.js";

process.on("uncaughtException", (error: Error & { code?: string }) => {
  const isArgument = error.code?.startsWith("ERR_PARSE_ARGS") ?? false;
  if (!(error instanceof DsnetError || isArgument)) {
    console.error(error);
    process.exit(1);
  }
  console.error(`error[${isArgument ? "ERR_USAGE" : error.code}]: ${error.message}`);
  process.exit(isArgument || error.code === "ERR_USAGE" ? 2 : 1);
});
