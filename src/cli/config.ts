/**
 * A training run's configuration: defaults, then a YAML file, then flags; the later wins. Every mistake is reported at once,
 * each with the place it was made: file, line and column, or flag.
 */
import { readFileSync, statSync } from "node:fs";
import * as v from "valibot";
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLMap,
} from "yaml";
import { UsageError } from "../errors.js";
import type { TrainConfig } from "../train/config.js";
import { defaultConfig } from "../train/defaults.js";
import { flagOf, type Leaf, leaves, sections, suggest } from "./schema.js";

export interface ConfigSource {
  /** Path of a YAML file. */
  file?: string | undefined;
  /** Setting (`lr`, `gate.epochs`, dashes as good as underscores) → what was typed. Lists `0,1,2`; null is `none`. */
  flags?: Readonly<Record<string, string>>;
}

/** A value and the place it was given. */
interface Setting {
  value: unknown;
  /** ` at recipe.yaml:3:1` or empty. */
  at: string;
  /** How the user wrote its name: `lr` or `--lr`. */
  name: string;
}

/** The complete configuration. Throws UsageError that lists everything wrong. */
export function loadConfig({ file, flags = {} }: ConfigSource): TrainConfig {
  const problems: string[] = [];
  const settings = new Map<string, Setting>();
  if (file !== undefined) readYaml(file, settings, problems);
  readFlags(flags, settings, problems);

  for (const [path, { value, at, name }] of settings) {
    const leaf = leaves.get(path)!;
    const { issues } = v.safeParse(leaf.check, value, { abortEarly: true });
    if (issues) problems.push(`\`${name}\`${at}: expected ${expected(leaf, issues[0], name)}, got ${show(value)}`);
  }
  for (const needed of ["model", "data"]) {
    if (!settings.has(needed)) {
      problems.push(`no ${needed}: give ${flagOf(needed)}, or \`${needed}:\` in the file of --config`);
    }
  }
  if (problems.length === 0) {
    const config = defaultConfig(settings.get("model")!.value as string);
    // Random-resized-crop takes the place of the padded crop, unless both were asked for.
    if (settings.get("augment.scale")?.value && !settings.has("augment.crop_pad")) config.augment.crop_pad = 0;
    for (const [path, { value }] of settings) assign(config, path, value);
    problems.push(...conflicts(config));
    if (problems.length === 0) return config;
  }
  throw new UsageError(
    problems.length === 1 ? problems[0]! : `${problems.length} mistakes in the settings\n  ${problems.join("\n  ")}`,
  );
}

function expected(leaf: Leaf, issue: v.BaseIssue<unknown>, name: string): string {
  // An item of a list fails with valibot's own words; the list's are better.
  const phrase = issue.path ? v.safeParse(leaf.check, undefined).issues![0].message : issue.message;
  return leaf.nullable ? `${phrase}, or ${name.startsWith("--") ? "none" : "null"}` : phrase;
}

function assign(config: TrainConfig, path: string, value: unknown): void {
  const [first, second] = path.split(".") as [string, string | undefined];
  const root = config as unknown as Record<string, unknown>;
  if (second === undefined) root[first] = value;
  else (root[first] as Record<string, unknown>)[second] = value;
}

/** Settings that are right alone and wrong together. */
function conflicts({ augment, lr, min_lr, warmup_epochs, warmup_lr, gate }: TrainConfig): string[] {
  const found: string[] = [];
  if (augment.scale && augment.crop_pad > 0) {
    found.push("`augment.crop_pad` and `augment.scale` exclude each other: leave one out");
  }
  if (min_lr > lr) found.push(`\`min_lr\`: expected at most \`lr\`, ${lr}, got ${min_lr}`);
  else if (min_lr > gate.lr) found.push(`\`min_lr\`: expected at most \`gate.lr\`, ${gate.lr}, got ${min_lr}`);
  if (warmup_epochs > 0 && warmup_lr > lr)
    found.push(`\`warmup_lr\`: expected at most \`lr\`, ${lr}, got ${warmup_lr}`);
  return found;
}

// ---- flags

function readFlags(flags: Readonly<Record<string, string>>, settings: Map<string, Setting>, problems: string[]): void {
  for (const [typed, text] of Object.entries(flags)) {
    const path = normalise(typed);
    const leaf = leaves.get(path);
    const name = flagOf(path);
    if (leaf) settings.set(path, { value: parseTyped(leaf, text), at: "", name });
    else problems.push(`unknown flag \`${name}\`${suggestFlag(typed)}`);
  }
}

/** `; did you mean …` for a flag that is none, or empty when nothing is near. */
export function suggestFlag(typed: string): string {
  const meant = suggest(normalise(typed));
  if (meant === undefined) return "";
  return sections.has(meant) ? `; did you mean \`${flagOf(meant)}.KEY\`?` : `; did you mean \`${flagOf(meant)}\`?`;
}

function normalise(name: string): string {
  return name.replaceAll("-", "_");
}

/** What is typed → a value for the check to judge; what is no number stays text, so that the message shows it as typed. */
function parseTyped(leaf: Leaf, text: string): unknown {
  const number = (part: string) => (part.trim() === "" || Number.isNaN(Number(part)) ? part : Number(part));
  if (leaf.nullable && text === "none") return null;
  if (leaf.kind === "number") return number(text);
  if (leaf.kind === "list") return text.split(",").map(number);
  return text;
}

// ---- YAML

/** A recipe has a few hundred bytes: anything of this size is another file given by mistake. */
const MAX_BYTES = 1 << 20;

function readYaml(file: string, settings: Map<string, Setting>, problems: string[]): void {
  const lines = new LineCounter();
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const document = parse(file, lines);
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    throw new UsageError(broken.map(({ message, pos }) => `not valid YAML at ${place(pos[0])}: ${message}`).join("\n"));
  }
  visit(document, {
    // No recipe needs them, and a few nested ones expand to gigabytes.
    Alias(_key, { source, range }) {
      throw new UsageError(`\`*${source}\` at ${place(range![0])}: expected no aliases; write the value out`);
    },
  });
  const root = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return; // empty, or comments only
  if (!isMap(root)) throw new UsageError(`${place(root.range[0])}: expected lines of \`key: value\``);

  const readMap = (map: YAMLMap, prefix: string) => {
    for (const { key, value } of map.items) {
      const at = ` at ${place((key as Node).range![0])}`;
      const typed = isScalar(key) ? String(key.value) : String(key);
      const path = prefix + normalise(typed);
      const js = isNode(value) ? value.toJS(document, { maxAliasCount: 0 }) : null;
      if (leaves.has(path) && !typed.includes(".")) {
        if (settings.has(path)) problems.push(`\`${path}\`${at}: given a second time`);
        settings.set(path, { value: js, at, name: path });
      } else if (prefix === "" && sections.has(path)) {
        if (isMap(value)) readMap(value, `${path}.`);
        else if (js !== null)
          problems.push(`\`${path}\`${at}: expected keys under it (${keysOf(path)}), got ${show(js)}`);
      } else {
        problems.push(`unknown key \`${prefix}${typed}\`${at}${suggestKey(path)}`);
      }
    }
  };
  readMap(root, "");
}

function parse(file: string, lineCounter: LineCounter): Document.Parsed {
  try {
    if (statSync(file).size > MAX_BYTES)
      throw new UsageError(`${file}: expected a recipe of less than ${MAX_BYTES} bytes`);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`${file}: cannot be read as a YAML recipe: ${(cause as Error).message}`, { cause });
  }
}

function keysOf(section: string): string {
  const prefix = `${section}.`;
  return [...leaves.keys()]
    .filter((path) => path.startsWith(prefix))
    .map((path) => path.slice(prefix.length))
    .join(", ");
}

/** `; did you mean …` for a key that is none, or a hint where to look when nothing is near. */
function suggestKey(path: string): string {
  const meant = suggest(path);
  if (meant === undefined) return "; see `dsnet train --help`";
  const [section, key] = meant.split(".");
  return key === undefined ? `; did you mean \`${meant}\`?` : `; did you mean \`${key}\` under \`${section}\`?`;
}

function show(value: unknown): string {
  const json = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
