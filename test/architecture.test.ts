/** The rules of docs/ARCHITECTURE.md, held against every import in src/. Imports of types alone vanish and are free. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { describe, it } from "node:test";
import ts from "typescript";

const root = process.cwd();
const skip = existsSync(join(root, "docs/ARCHITECTURE.md")) ? false : "run from the root of a clone";

/** Files of src/, by path below it. */
const files = skip
  ? []
  : readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
      .map((path) => path.replaceAll("\\", "/"))
      .filter((path) => path.endsWith(".ts") && !path.startsWith("backend/generated/"));

/** `import type`: it leaves no trace in the compiled file; `import { type A }` does, for the other file's effects. */
const typeOnly = (clause?: ts.ImportClause) => clause?.phaseModifier === ts.SyntaxKind.TypeKeyword;

/** What a file imports when it runs, dynamically too; a relative one as its path below src/. */
function importsOf(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, "src", file), "utf8"), ts.ScriptTarget.ES2022, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && !typeOnly(node.importClause)) add(node.moduleSpecifier);
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier && !node.isTypeOnly) add(node.moduleSpecifier);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0]!);
    ts.forEachChild(node, visit);
  };
  const add = (node: ts.Node) => {
    assert.ok(ts.isStringLiteral(node), `${file}: the name of an import is computed`);
    const name = node.text;
    found.push(name.startsWith(".") ? posix.join(dirname(file), name).replace(/\.js$/, ".ts") : name);
  };
  visit(source);
  return found;
}

const imports = new Map(files.map((file) => [file, importsOf(file)]));

/** Layer → the layers it may use, by the chains of arrows in the document. */
function layers(): Map<string, Set<string>> {
  const below = new Map<string, Set<string>>();
  for (const line of readFileSync(join(root, "docs/ARCHITECTURE.md"), "utf8").split("\n")) {
    if (!line.includes(" ← ")) continue;
    const chain = line.split("←").map((part) => part.trim().split(" ")[0]!);
    chain.forEach((layer, i) => {
      const direct = below.get(layer) ?? new Set();
      if (i > 0) direct.add(chain[i - 1]!);
      below.set(layer, direct);
    });
  }
  for (let grown = true; grown; ) {
    grown = false;
    for (const reach of below.values()) {
      for (const layer of [...reach].flatMap((direct) => [...below.get(direct)!])) {
        if (!reach.has(layer)) grown = true;
        reach.add(layer);
      }
    }
  }
  return below;
}

const layerOf = (file: string) => (file.includes("/") ? file.split("/")[0]! : file.replace(/\.ts$/, ""));
const isInternal = (name: string) => name.endsWith(".ts");
const forNode = (file: string) => file.endsWith("-node.ts") || file.startsWith("cli/");
const NODE_ENTRIES = ["train/index.ts", "data/index.ts"];

/** Whatever breaks a rule, as `file → import`. */
function offenders(breaks: (file: string, name: string) => boolean): string[] {
  return [...imports].flatMap(([file, names]) =>
    names.filter((name) => breaks(file, name)).map((name) => `${file} → ${name}`),
  );
}

describe("the architecture", { skip }, () => {
  it("is found: every folder of src/ is in the arrows, and files import each other", () => {
    const known = new Set([...layers().keys(), "errors", "random", "io"]);
    assert.deepEqual(
      [...new Set(files.map(layerOf))].filter((layer) => !known.has(layer)),
      [],
    );
    assert.ok([...imports.values()].flat().filter(isInternal).length > files.length);
  });

  it("imports point down the arrows", () => {
    const below = layers();
    const all = ["errors", "random", "io"];
    const shared = new Map([
      ["errors", []],
      ["random", ["errors"]],
      ["io", ["errors", "random"]],
    ]);
    assert.deepEqual(
      offenders((file, name) => {
        if (!isInternal(name)) return false;
        const [from, to] = [layerOf(file), layerOf(name)];
        if (from === to) return false;
        return shared.has(from)
          ? !shared.get(from)!.includes(to as never)
          : !all.includes(to) && !below.get(from)!.has(to);
      }),
      [],
    );
  });

  it("only -node files and the CLI import Node's modules or packages", () => {
    const outside = (name: string) => !isInternal(name) && !name.startsWith("#");
    assert.deepEqual(
      offenders((file, name) => outside(name) && !forNode(file)),
      [],
    );
  });

  it("only -node files, the CLI and the entries for Node import -node files", () => {
    assert.deepEqual(
      offenders((file, name) => name.endsWith("-node.ts") && !forNode(file) && !NODE_ENTRIES.includes(file)),
      [],
    );
  });

  it("the core, with the browser's #platform and #source, reaches nothing of Node and no package", () => {
    const { imports: aliases } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const web = (name: string) =>
      name.startsWith("#") ? aliases[name].default.replace("./dist/src/", "").replace(/\.js$/, ".ts") : name;
    const reached = new Set(["index.ts"]);
    for (const file of reached) {
      for (const name of (imports.get(file) ?? []).map(web)) {
        assert.ok(isInternal(name) && !forNode(name), `${file} → ${name}`);
        reached.add(name);
      }
    }
    for (const file of ["engine/network.ts", "backend/platform-web.ts", "image/source-web.ts"])
      assert.ok(reached.has(file));
  });

  it("every package that src/ imports is a dependency, and every dependency is imported", () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const packages = [...imports.values()]
      .flat()
      .filter((name) => !isInternal(name) && !/^(node:|#)/.test(name))
      .map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)![0]);
    packages.push("node-api-headers"); // what scripts/build-native.mjs, which is shipped, compiles against
    assert.deepEqual([...new Set(packages)].sort(), Object.keys(dependencies).sort());
  });
});
