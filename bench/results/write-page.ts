/** `npm run results`: docs/RESULTS.md and docs/results/*.svg from the records in results/. */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { loadConfig } from "../../src/cli/config.js";
import { writeFileAtomic } from "../../src/io/files-node.js";
import { renderResults } from "./page.js";

const recipe = loadConfig({ file: "recipes/reduced.yaml", flags: { data: "-" } });
for (const [name, content] of renderResults("results", recipe)) {
  const path = join("docs", name);
  mkdirSync(dirname(path), { recursive: true });
  await writeFileAtomic(path, new TextEncoder().encode(content));
  console.log(path);
}
