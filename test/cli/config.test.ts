import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { stringify } from "yaml";
import { loadConfig } from "../../src/cli/config.js";
import { flagOf, leaves, suggest } from "../../src/cli/schema.js";
import { UsageError } from "../../src/errors.js";
import { listModels } from "../../src/models/registry.js";
import type { TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";

const folder = mkdtempSync(join(tmpdir(), "dsnet-config-"));
after(() => rmSync(folder, { recursive: true }));
const needed = { model: "ds_mbnet_28", data: "mnist" };

/** Path of a file with this text. */
function recipe(text: string | Uint8Array): string {
  const file = join(folder, "recipe.yaml");
  writeFileSync(file, text);
  return file;
}

/** Message of the UsageError, with the folder taken out. */
function refusal(source: Parameters<typeof loadConfig>[0]): string {
  try {
    loadConfig(source);
  } catch (error) {
    assert(error instanceof UsageError, `not a UsageError: ${error}`);
    return error.message.replaceAll(join(folder, "recipe.yaml"), "recipe.yaml");
  }
  return assert.fail("was accepted");
}
const refusedYaml = (text: string) => refusal({ file: recipe(text), flags: needed });
const refusedFlag = (flags: Record<string, string>) => refusal({ flags: { ...needed, ...flags } });

describe("defaults", () => {
  it("pass the schema, for small, medium and large models", () => {
    for (const model of ["ds_mbnet_28", "ds_mbnet_32", "ds_mbnet"]) {
      const config = { ...defaultConfig(model), data: "mnist" };
      assert.deepEqual(loadConfig({ file: recipe(stringify(config)) }), config);
    }
  });

  it("fit the input size: padding, and no mirrored digits", () => {
    const facts = ["ds_mbnet_28", "ds_mbnet_32", "ds_mbnet"].map((model) => {
      const { crop_pad, hflip, scale } = defaultConfig(model).augment;
      return [crop_pad, hflip, scale !== null];
    });
    assert.deepEqual(facts, [
      [2, 0, false],
      [4, 0.5, false],
      [0, 0.5, true],
    ]);
  });

  it("are handed out fresh: changing one changes no other", () => {
    defaultConfig("ds_mbnet").gate.epochs = 99;
    assert.notEqual(defaultConfig("ds_mbnet").gate.epochs, 99);
  });
});

describe("precedence", () => {
  it("flags win over the file, the file over the defaults, key by key at every depth", () => {
    const file = recipe("model: ds_mbnet_32\ndata: images\nlr: 0.2\nepochs: 3\ngate:\n  epochs: 7\n  lr: 0.01\n");
    const config = loadConfig({ file, flags: { lr: "0.3", "gate.epochs": "9" } });
    const standard = defaultConfig("ds_mbnet_32");
    assert.deepEqual(config, {
      ...standard,
      data: "images",
      lr: 0.3,
      epochs: 3,
      gate: { ...standard.gate, epochs: 9, lr: 0.01 },
    });
  });

  it("the model of a flag decides the defaults, whatever the file's", () => {
    const config = loadConfig({ file: recipe("model: ds_mbnet\n"), flags: needed });
    assert.equal(config.output, "runs/ds_mbnet_28");
    assert.equal(config.augment.crop_pad, 2);
  });

  it("an empty file, a file of comments and an empty section change nothing", () => {
    const standard = loadConfig({ flags: needed });
    for (const text of ["", "# nothing\n", "---\n", "gate:\n  # epochs: 3\n"]) {
      assert.deepEqual(loadConfig({ file: recipe(text), flags: needed }), standard);
    }
  });

  it("asking for random-resized-crop turns the padded crop off", () => {
    const { augment } = loadConfig({ flags: { ...needed, "augment.scale": "0.3,1" } });
    assert.deepEqual([augment.scale, augment.crop_pad], [[0.3, 1], 0]);
  });
});

describe("flags", () => {
  it("every setting can be given as a flag, and comes out as it went in", () => {
    const config: TrainConfig = {
      ...defaultConfig("ds_mbnet"),
      data: "d",
      subset: 100,
      augment: { ...defaultConfig("ds_mbnet").augment, aa: "rand-m9-mstd0.5", crop_pad: 0 },
      gate: { ...defaultConfig("ds_mbnet").gate, candidates: [0, 3, 5], target_madds: 12e6 },
    };
    const flags = Object.fromEntries(
      [...leaves.keys()].map((path) => {
        const value = path.split(".").reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], config);
        return [path, value === null ? "none" : String(value)];
      }),
    );
    assert.deepEqual(loadConfig({ flags }), config);
  });

  it("dashes are as good as underscores", () => {
    assert.equal(loadConfig({ flags: { ...needed, "batch-size": "64" } }).batch_size, 64);
    assert.equal(loadConfig({ flags: { ...needed, batch_size: "64" } }).batch_size, 64);
    assert.equal(flagOf("gate.weight_decay"), "--gate.weight-decay");
  });

  it("none is null where null is allowed, and text elsewhere", () => {
    assert.equal(loadConfig({ flags: { ...needed, subset: "none" } }).subset, null);
    assert.equal(loadConfig({ flags: { ...needed, bootstrap: "none" } }).bootstrap, "none");
    assert.equal(refusedFlag({ lr: "none" }), '`--lr`: expected a number > 0, got "none"');
  });

  it("a wrong value is named with what was expected and what came", () => {
    assert.equal(refusedFlag({ lr: "" }), '`--lr`: expected a number > 0, got ""');
    assert.equal(refusedFlag({ lr: "-1" }), "`--lr`: expected a number > 0, got -1");
    assert.equal(refusedFlag({ lr: "Infinity" }), "`--lr`: expected a number > 0, got Infinity");
    assert.equal(refusedFlag({ epochs: "1.5" }), "`--epochs`: expected a whole number ≥ 0, got 1.5");
    assert.equal(
      refusedFlag({ model: "resnet" }),
      `\`--model\`: expected one of ${listModels().join(", ")}, got "resnet"`,
    );
    assert.equal(refusedFlag({ device: "gpu" }), '`--device`: expected one of auto, native, wasm, got "gpu"');
    assert.equal(refusedFlag({ data: " " }), '`--data`: expected a text that is not empty, got " "');
    assert.match(refusedFlag({ "gate.candidates": "0,x" }), /^`--gate.candidates`: expected a list .*, got \[0,"x"\]$/);
    assert.match(refusedFlag({ "gate.candidates": "1,1" }), /in rising order, or none, got \[1,1\]$/);
    assert.match(refusedFlag({ "augment.scale": "0.5" }), /expected two numbers.*, or none, got \[0.5\]$/);
    assert.match(refusedFlag({ "augment.aa": "randaug" }), /expected RandAugment in timm's notation.*got "randaug"$/);
  });

  it("an unknown flag suggests the setting that was meant, by any of its common names", () => {
    const cases = {
      "learning-rate": "--lr",
      wd: "--weight-decay",
      "label-smoothing": "--smoothing",
      "ema-decay": "--model-ema-decay",
      "gate.epcohs": "--gate.epochs",
      candidates: "--gate.candidates",
      hflip: "--augment.hflip",
    };
    for (const [typed, meant] of Object.entries(cases)) {
      assert.equal(refusedFlag({ [typed]: "1" }), `unknown flag \`--${typed}\`; did you mean \`${meant}\`?`);
    }
    assert.equal(refusedFlag({ xyzzyplugh: "1" }), "unknown flag `--xyzzyplugh`");
  });
});

describe("YAML", () => {
  it("an unknown key is named with line and column and the key that was meant", () => {
    assert.equal(
      refusedYaml("epochs: 3\n# a comment\nlerning_rate: 0.1\n"),
      "unknown key `lerning_rate` at recipe.yaml:3:1; did you mean `lr`?",
    );
    assert.equal(
      refusedYaml("gate:\n  candidats: [0]\n"),
      "unknown key `gate.candidats` at recipe.yaml:2:3; did you mean `candidates` under `gate`?",
    );
    assert.equal(
      refusedYaml("gate.epochs: 3\n"),
      "unknown key `gate.epochs` at recipe.yaml:1:1; did you mean `epochs` under `gate`?",
    );
    assert.equal(
      refusedYaml("xyzzyplugh: 3\n"),
      "unknown key `xyzzyplugh` at recipe.yaml:1:1; see `dsnet train --help`",
    );
    assert.match(refusedYaml("__proto__: {lr: 1}\n"), /^unknown key `__proto__` at recipe.yaml:1:1/);
  });

  it("a wrong value is named with its place", () => {
    assert.equal(refusedYaml("lr: fast\n"), '`lr` at recipe.yaml:1:1: expected a number > 0, got "fast"');
    assert.equal(refusedYaml("lr:\n"), "`lr` at recipe.yaml:1:1: expected a number > 0, got null");
    assert.match(
      refusedYaml("gate:\n  candidates: [0, .5]\n"),
      /^`gate.candidates` at recipe.yaml:2:3: .*or null, got \[0,0.5\]$/,
    );
    assert.match(refusedYaml("augment:\n  aa: none\n"), /, or null, got "none"$/);
    assert.match(
      refusedYaml("gate: 5\n"),
      /^`gate` at recipe.yaml:1:1: expected keys under it \(epochs, lr, .*\), got 5$/,
    );
  });

  it("all mistakes are told at once", () => {
    const message = refusedYaml("lr: fast\nepochs: -1\nfoo_bar_baz: 1\n");
    assert.match(message, /^3 mistakes in the settings\n {2}/);
    assert.equal(message.split("\n").length, 4);
  });

  it("a key given twice is refused, also in two spellings", () => {
    assert.match(refusedYaml("lr: 1\nlr: 2\n"), /^not valid YAML at recipe.yaml:2:1: Map keys must be unique/);
    assert.equal(refusedYaml("batch-size: 1\nbatch_size: 2\n"), "`batch_size` at recipe.yaml:2:1: given a second time");
  });

  it("broken YAML is refused with line and column", () => {
    assert.match(refusedYaml("lr: 1\nepochs: [1\n"), /^not valid YAML at recipe.yaml:3:1: /);
    assert.match(refusedYaml("lr: !!python/object 1\n"), /^not valid YAML at recipe.yaml:1:5: Unresolved tag/);
    assert.match(refusedYaml("lr: 1\n---\nlr: 2\n"), /^not valid YAML at recipe.yaml:2:1: /);
    assert.equal(refusedYaml("- lr\n"), "recipe.yaml:1:1: expected lines of `key: value`");
  });

  it("aliases are refused before they can expand", () => {
    const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"];
    for (const [from, to] of ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"]) {
      bomb.push(`${to}: &${to} [${Array(9).fill(`*${from}`).join(", ")}]`);
    }
    const started = performance.now();
    assert.equal(refusedYaml(bomb.join("\n")), "`*a` at recipe.yaml:2:8: expected no aliases; write the value out");
    assert(performance.now() - started < 2000, "the bomb went off");
    assert.match(refusedYaml("gate: &g\n  candidates: *g\n"), /expected no aliases/);
  });

  it("files that are no recipe are refused: absent, binary, huge, bottomless", () => {
    assert.match(
      refusal({ file: join(folder, "absent.yaml") }),
      /absent.yaml: cannot be read as a YAML recipe: ENOENT/,
    );
    assert.match(refusal({ file: folder }), /cannot be read as a YAML recipe: EISDIR/);
    assert.match(refusal({ file: recipe(Uint8Array.of(0xff, 0xfe, 0x80)) }), /not valid for encoding utf-8/);
    assert.match(
      refusal({ file: recipe(new Uint8Array(2 ** 20 + 1)) }),
      /expected a recipe of less than 1048576 bytes/,
    );
    for (const depth of [1000, 5000, 100_000]) assert.match(refusedYaml("[".repeat(depth)), /YAML/);
  });
});

describe("the whole", () => {
  it("model and data have no default", () => {
    assert.equal(refusal({ flags: { data: "d" } }), "no model: give --model, or `model:` in the file of --config");
    assert.equal(refusal({ flags: { model: "ds_mbnet" } }), "no data: give --data, or `data:` in the file of --config");
  });

  it("settings that exclude each other are refused", () => {
    assert.match(
      refusedFlag({ "augment.scale": "0.1,1", "augment.crop_pad": "2" }),
      /exclude each other: leave one out$/,
    );
    assert.equal(refusedFlag({ min_lr: "1" }), "`min_lr`: expected at most `lr`, 0.1, got 1");
    assert.equal(refusedFlag({ min_lr: "0.06" }), "`min_lr`: expected at most `gate.lr`, 0.05, got 0.06");
    assert.equal(refusedFlag({ warmup_lr: "1" }), "`warmup_lr`: expected at most `lr`, 0.1, got 1");
  });

  it("every setting has words for --help, and is its own nearest name", () => {
    for (const { path, about } of leaves.values()) {
      assert.notEqual(about, "", path);
      assert.equal(suggest(path), path);
    }
  });
});
