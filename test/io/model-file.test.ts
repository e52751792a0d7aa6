import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { float32Tensor } from "../../src/io/float32.js";
import { checkTensors, decodeModel, encodeModel, type ModelFile, selectTensors } from "../../src/io/model-file.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import { readSafetensors, writeSafetensors } from "../../src/io/safetensors.js";

function sample(): ModelFile {
  return {
    model: { name: "ds_mbnet", spec: { stem: { widths: [16, 24] }, note: "ü" } },
    classes: ["cat", "dog", "crane", "crane"],
    preprocessing: {
      height: 32,
      width: 32,
      channels: 3,
      mean: [0.5, 0.5, 0.5],
      std: [0.2, 0.2, 0.2],
      interpolation: "bicubic",
      cropPct: 0.875,
    },
    candidates: [0, 2, 5],
    routing: { by: "cascade", wider: 2, threshold: 0.6 },
    cascades: [{ wider: 2, threshold: 0.6, madds: 9e6, accuracy: 0.92, shares: [0.7, 0.3, 0] }],
    calibration: [
      { lambda: 0, madds: 12e6, accuracy: 0.91 },
      { lambda: 0.5, madds: 8e6, accuracy: 0.9, shares: [0.5, 0.25, 0.25] },
    ],
    training: { stage: "supernet", epoch: 3, step: 1200, best: { accuracy: 0.9 } },
    results: { top1: 0.91 },
    kernelBuild: "native avx512",
    tensors: new Map([
      ["conv_stem.weight", float32Tensor([2, 1, 1, 1], new Float32Array([1, -0]))],
      ["ema.conv_stem.weight", float32Tensor([2, 1, 1, 1], new Float32Array([3, 4]))],
      ["optimizer.conv_stem.weight", float32Tensor([2, 1, 1, 1], new Float32Array([5, Number.NaN]))],
    ]),
  };
}

/** A valid file with one metadata entry replaced, or removed by undefined. */
function withMetadata(key: string, value: string | undefined): Uint8Array {
  const { metadata, tensors } = readSafetensors(encodeModel(sample()));
  if (value === undefined) metadata.delete(key);
  else metadata.set(key, value);
  return writeSafetensors(tensors, metadata);
}

function preprocessing(change: object): string {
  return JSON.stringify({ ...sample().preprocessing, ...change });
}

describe("a model file", () => {
  it("reads back as it was written, and equal files are equal bytes", () => {
    const bytes = encodeModel(sample());
    const read = decodeModel(bytes);
    for (const key of Object.keys(sample()) as (keyof ModelFile)[]) {
      if (key !== "tensors") assert.deepEqual(read[key], sample()[key], key);
    }
    assert.deepEqual([...read.tensors.keys()].sort(), [...sample().tensors.keys()].sort());
    for (const [name, { data }] of sample().tensors)
      assert.equal(Buffer.compare(read.tensors.get(name)!.data, data), 0);
    assert.deepEqual(encodeModel(read), bytes);
  });

  it("does without the optional fields", () => {
    const { routing, cascades, calibration, training, results, kernelBuild, ...required } = sample();
    const read = decodeModel(encodeModel({ ...required, candidates: [] }));
    assert.deepEqual(Object.keys(read).sort(), ["candidates", "classes", "model", "preprocessing", "tensors"]);
  });

  it("ignores metadata of others", () => {
    assert.deepEqual(decodeModel(withMetadata("author", "someone")).classes, sample().classes);
  });

  it("of a newer version is refused with a sentence that says to update", () => {
    assert.throws(() => decodeModel(withMetadata("format_version", "2")), {
      code: "ERR_FORMAT",
      message: /format version 2, this dsnet reads up to 1: update dsnet/,
    });
  });

  const broken: [what: string, key: string, value: string | undefined, message: RegExp][] = [
    ["no format", "format", undefined, /not a model of dsnet.*dsnet import/],
    ["another format", "format", "pt", /not a model of dsnet/],
    ["no version", "format_version", undefined, /format_version to be a positive integer, got "undefined"/],
    ["a version that is no number", "format_version", "one", /format_version.*"one"/],
    ["version 0", "format_version", "0", /format_version/],
    ["no model", "model", undefined, /lacks "model"/],
    ["no classes", "classes", undefined, /lacks "classes"/],
    ["no preprocessing", "preprocessing", undefined, /lacks "preprocessing"/],
    ["no candidates", "candidates", undefined, /lacks "candidates"/],
    ["broken JSON", "classes", '["cat",', /"classes" is not valid JSON/],
    ["a model without name", "model", '{"spec":{}}', /"model\.name"/],
    ["a model with an empty name", "model", '{"name":"","spec":{}}', /"model\.name"/],
    ["a model without spec", "model", '{"name":"x"}', /"model\.spec"/],
    ["a class that is no string", "classes", '["cat",1]', /"classes\.1".*string/],
    ["classes that are no list", "classes", '"cat"', /"classes"/],
    ["a height of 0", "preprocessing", preprocessing({ height: 0 }), /"preprocessing\.height"/],
    ["a fractional width", "preprocessing", preprocessing({ width: 31.5 }), /"preprocessing\.width"/],
    ["a std of 0", "preprocessing", preprocessing({ std: [1, 0, 1] }), /"preprocessing\.std\.1"/],
    ["too few means", "preprocessing", preprocessing({ mean: [0.5] }), /"preprocessing".*one mean and std per channel/],
    [
      "an unknown interpolation",
      "preprocessing",
      preprocessing({ interpolation: "area" }),
      /"preprocessing\.interpolation"/,
    ],
    ["a crop beyond the image", "preprocessing", preprocessing({ cropPct: 1.1 }), /"preprocessing\.cropPct"/],
    ["a field from the future", "preprocessing", preprocessing({ antialias: true }), /"preprocessing\.antialias"/],
    ["a negative candidate", "candidates", "[-1,0]", /"candidates\.0"/],
    ["candidates out of order", "candidates", "[1,0]", /"candidates".*ascending/],
    ["a candidate twice", "candidates", "[1,1]", /"candidates".*ascending/],
    ["a λ in words", "routing", '{"by":"gate","lambda":"much"}', /"routing\.lambda"/],
    [
      "a gate's cascade",
      "routing",
      '{"by":"gate","threshold":0.5}',
      /"routing\.threshold" is wrong: expected no such field/,
    ],
    [
      "depth",
      "classes",
      `${"[".repeat(1e5)}${"]".repeat(1e5)}`,
      /"classes\.0" is wrong: expected a string, got something/,
    ],
    ["chance", "routing", '{"by":"dice"}', /"routing\.by" is wrong: expected gate or cascade/],
    ["a threshold in percent", "routing", '{"by":"cascade","wider":1,"threshold":50}', /"routing\.threshold"/],
    ["no cascade at all", "cascades", "[]", /"cascades".* at least one point/],
    ["a cascade of no width", "cascades", '[{"threshold":0.5,"madds":1,"accuracy":1}]', /"cascades\.0\.wider"/],
    ["an accuracy in percent", "calibration", '[{"lambda":0,"madds":1,"accuracy":91}]', /"calibration\.0\.accuracy"/],
    [
      "shares above 1",
      "calibration",
      '[{"lambda":0,"madds":1,"accuracy":1,"shares":[0,2]}]',
      /"calibration\.0\.shares\.1"/,
    ],
    ["a calibration without cost", "calibration", '[{"lambda":0,"accuracy":0.9}]', /"calibration\.0\.madds"/],
    ["training without a step", "training", '{"stage":"supernet","epoch":1}', /"training\.step"/],
    ["a negative epoch", "training", '{"stage":"supernet","epoch":-1,"step":0}', /"training\.epoch"/],
  ];
  for (const [what, key, value, message] of broken) {
    it(`with ${what} is refused`, () => {
      assert.throws(() => decodeModel(withMetadata(key, value)), { code: "ERR_FORMAT", message });
    });
  }

  for (const dtype of ["F16", "BF16"] as const) {
    it(`with a tensor of ${dtype} reads back as it was written`, () => {
      const tensor = { dtype, shape: [3], data: Uint8Array.of(0, 60, 1, 124, 255, 255) };
      const read = decodeModel(encodeModel({ ...sample(), tensors: new Map([["x", tensor]]) }));
      assert.deepEqual(read.tensors.get("x"), tensor);
    });

    it(`with a tensor of ${dtype} that lacks a byte is refused`, () => {
      const bytes = encodeModel({
        ...sample(),
        tensors: new Map([["x", { dtype, shape: [3], data: new Uint8Array(6) }]]),
      });
      const text = Buffer.from(bytes.subarray(0, bytes.length - 1));
      assert.throws(() => decodeModel(text), { code: "ERR_FORMAT", message: /^MetadataIncompleteBuffer/ });
      const other = Buffer.from(bytes.slice());
      other.write("[4]", other.indexOf('"shape":[3]') + 8);
      assert.throws(() => decodeModel(other), {
        code: "ERR_FORMAT",
        message: /^TensorInvalidInfo.*needs 8 bytes and has 6/,
      });
    });
  }

  for (const dtype of ["F64", "I64", "F8_E4M3"] as const) {
    it(`with a tensor of ${dtype} is refused, in reading and in writing`, () => {
      const { metadata, tensors } = readSafetensors(encodeModel(sample()));
      tensors.set("x", { dtype, shape: [8], data: new Uint8Array(dtype === "F8_E4M3" ? 8 : 64) });
      const message = RegExp(`Expected all tensors as F32, F16 or BF16, "x" is ${dtype}`);
      assert.throws(() => decodeModel(writeSafetensors(tensors, metadata)), { code: "ERR_FORMAT", message });
      assert.throws(() => encodeModel({ ...sample(), tensors }), { code: "ERR_FORMAT", message });
    });
  }

  it("is never written so that it cannot be read", () => {
    assert.throws(() => encodeModel({ ...sample(), candidates: [2, 1] }), { code: "ERR_FORMAT", message: /ascending/ });
    const training = { stage: "gate", epoch: 0, step: 0, best: { accuracy: Number.NEGATIVE_INFINITY } };
    assert.throws(() => encodeModel({ ...sample(), training }), {
      code: "ERR_USAGE",
      message: /-Infinity.*"training" at "accuracy"/,
    });
  });

  it("of PyTorch is told from one whose header is as long as a zip's or pickle's first bytes say", () => {
    const message = /dsnet import/;
    for (const start of ["PK\x03\x04", "\x80\x02}q"]) {
      const checkpoint = Buffer.from(start.padEnd(64, "x"), "latin1");
      assert.throws(() => decodeModel(checkpoint), { code: "ERR_FORMAT", message });
    }
    // Safetensors pads its header: some length among these ends in 0x80.
    const ends = new Set<number>();
    for (let extra = 0; extra < 256; extra += 4) {
      const bytes = encodeModel({ ...sample(), classes: [...sample().classes.slice(1), "x".repeat(extra + 1)] });
      ends.add(bytes[0]!);
      decodeModel(bytes);
    }
    assert.ok(ends.has(0x80));
  });

  it("on disk is read whole, and errors name the path", async () => {
    const folder = mkdtempSync(join(tmpdir(), "dsnet-model-"));
    try {
      const path = join(folder, "m.safetensors");
      writeFileSync(path, encodeModel(sample()));
      assert.deepEqual((await readModelFile(path)).classes, sample().classes);
      writeFileSync(path, "x");
      await assert.rejects(readModelFile(path), {
        code: "ERR_FORMAT",
        message: new RegExp(`^${path}: HeaderTooSmall`),
      });
      await assert.rejects(readModelFile(join(folder, "none")), { code: "ERR_USAGE" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("selectTensors", () => {
  it("parts a checkpoint into parameters, momentum and teacher", () => {
    const { tensors } = sample();
    for (const [kind, name] of [
      ["parameters", ""],
      ["optimizer", "optimizer."],
      ["ema", "ema."],
    ] as const) {
      const selected = selectTensors(tensors, kind);
      assert.deepEqual([...selected.keys()], ["conv_stem.weight"]);
      assert.equal(selected.get("conv_stem.weight"), tensors.get(`${name}conv_stem.weight`));
    }
  });
});

describe("checkTensors", () => {
  const shapes = (...names: string[]) => new Map(names.map((name) => [name, [2, 3]]));
  const got = (...names: string[]) => new Map(names.map((name) => [name, { shape: [2, 3] }]));

  it("is content with the same names and shapes in any order", () => {
    checkTensors(shapes("a", "b"), got("b", "a"));
  });

  it("names every missing, superfluous and misshapen tensor in one error", () => {
    const found = got("b", "c");
    found.set("b", { shape: [3, 2] });
    assert.throws(() => checkTensors(shapes("a", "b"), found), {
      code: "ERR_FORMAT",
      message:
        "The file's tensors do not fit the model.\n  1 missing: a\n  1 not part of the model: c\n  1 of another shape: b (expected [2,3], got [3,2])",
    });
  });

  it("tells a scalar from a vector of one, and [23] from [2,3]", () => {
    for (const shape of [[1], [23]]) {
      assert.throws(
        () => checkTensors(new Map([["a", shape[0] === 1 ? [] : [2, 3]]]), new Map([["a", { shape }]])),
        /another shape/,
      );
    }
  });

  it("names 10 of a kind and counts the rest", () => {
    const names = Array.from({ length: 25 }, (_, i) => `t${i}`);
    assert.throws(() => checkTensors(shapes(...names), got()), /25 missing: t0, .*, t9 and 15 more$/);
  });
});
