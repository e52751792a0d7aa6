/** `npm run demo`: sets up, then `dsnet demo` with the arguments given. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { setup } from "./setup.mjs";

try {
  await setup();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
const main = fileURLToPath(new URL("../dist/src/cli/main.js", import.meta.url));
const demo = spawn(process.execPath, [main, "demo", ...process.argv.slice(2)], { stdio: "inherit" });
// Ctrl-C reaches the demo too, which ends as it sees fit; this process follows it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => demo.kill("SIGTERM"));
demo.on("exit", (code) => process.exit(code ?? 1));
