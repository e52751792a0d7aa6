/** Checkpoints → model files. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { FormatError, UsageError } from "../../../src/errors.js";
import { decodeModel, encodeModel } from "../../../src/io/model-file.js";
import { readSafetensors, type StoredTensor, writeSafetensors } from "../../../src/io/safetensors.js";
import { readCheckpoint } from "../../../src/io/torch/checkpoint.js";
import { type ImportOptions, importCheckpoint } from "../../../src/models/import.js";
import { modelSpec } from "../../../src/models/registry.js";
import type { ModelSpec } from "../../../src/models/spec.js";
import { lacks, parityRoot } from "../../support/parity.js";
import { parityConfig, paritySpec } from "../../support/parity-networks.js";
import { checkpoint, SPEC, stateDict, weights } from "./support/network.js";
import { Global, Reduce, Tuple } from "./support/pickle.js";
import { ordered, saveLegacy, saveZip, tensor } from "./support/torch.js";

/** In each format: both of torch's, and safetensors under the names that a state dict has. */
const formats = (file: unknown, plain: ReadonlyMap<string, StoredTensor>) =>
  [saveZip(file), saveLegacy(file), writeSafetensors(plain, new Map([["format", "pt"]]))] as const;

const sameBytes = (got: ReadonlyMap<string, StoredTensor>, want: ReadonlyMap<string, StoredTensor>) => {
  assert.deepEqual([...got.keys()].sort(), [...want.keys()].sort());
  for (const [name, { dtype, shape, data }] of want) {
    const tensor = got.get(name)!;
    assert.deepEqual([tensor.dtype, tensor.shape], [dtype, shape], name);
    assert.equal(Buffer.compare(tensor.data, data), 0, name);
  }
};

function refused(file: Uint8Array, reason: RegExp, options: ImportOptions = { spec: SPEC }): void {
  assert.throws(
    () => importCheckpoint(file, options),
    (error) => error instanceof FormatError && reason.test(error.message),
  );
}

/** The weights with these tensors put in (undefined: taken out). */
const changed = (changes: Readonly<Record<string, unknown>>) => {
  const entries = new Map<unknown, unknown>((stateDict(weights()).more.items as Map<unknown, unknown>).entries());
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) entries.delete(name);
    else entries.set(name, value);
  }
  return saveZip(ordered(entries));
};

describe("importCheckpoint", () => {
  const averaged = new Map(
    [...weights()].map(([name, t]) => [name, { ...t, data: t.data.map((x, i) => (i % 4 === 0 ? x ^ 1 : x)) }]),
  );

  it("a state dict in any format, with or without module. before its names", () => {
    for (const prefix of ["", "module."]) {
      const plain = new Map([...weights()].map(([name, t]) => [prefix + name, t]));
      for (const file of formats(stateDict(weights(), prefix), plain)) {
        sameBytes(importCheckpoint(file, { spec: SPEC }).tensors, weights());
      }
    }
  });

  it("a training checkpoint: the plain weights, or the averaged ones where asked for", () => {
    const file = checkpoint({ state_dict_ema: stateDict(averaged) });
    const plain = new Map([
      ...[...weights()].map(([name, t]) => [`state_dict.module.${name}`, t] as const),
      ...[...averaged].map(([name, t]) => [`state_dict_ema.${name}`, t] as const),
    ]);
    for (const bytes of formats(file, plain)) {
      sameBytes(importCheckpoint(bytes, { spec: SPEC }).tensors, weights());
      sameBytes(importCheckpoint(bytes, { spec: SPEC, ema: true }).tensors, averaged);
    }
  });

  it("says what is there where the averaged weights are not, or only they", () => {
    refused(saveZip(checkpoint()), /no averaged weights.*"epoch", "arch", "state_dict", "optimizer"/, {
      spec: SPEC,
      ema: true,
    });
    refused(saveZip(new Map([["state_dict_ema", stateDict(weights())]])), /no plain weights.*"state_dict_ema"/);
    refused(saveZip(new Map([["net", stateDict(weights())]])), /"net" is OrderedDict/);
  });

  it("strips module. only where a name begins with exactly that, and never makes two names one", () => {
    const odd = saveZip(
      ordered([
        ["modules.w", tensor([1], [1])],
        ["module.module.w", tensor([1], [2])],
      ]),
    );
    assert.deepEqual([...readCheckpoint(odd).weights.keys()], ["modules.w", "module.w"]);
    const twice = saveZip(
      ordered([
        ["w", tensor([1], [1])],
        ["module.w", tensor([1], [2])],
      ]),
    );
    refused(twice, /"w" with and without "module\."/);
  });

  it("keeps beside the weights what they are: facts, ignored entries, inert globals", () => {
    const { entry, facts, ignored, inert } = readCheckpoint(saveZip(checkpoint({ metric: 71.5 })));
    assert.equal(entry, "state_dict");
    assert.deepEqual(Object.fromEntries(facts), {
      ...{ epoch: 7, arch: "small", version: 2, metric: 71.5 },
      ...{ "args.lr": 0.25, "args.gate_train": true, "args.resume": "" },
    });
    assert.deepEqual([ignored, inert], [["optimizer", "args"], ["argparse.Namespace"]]);
  });

  it("names tensors that are missing, superfluous or of another shape; none is skipped", () => {
    const bias = "classifier.bias";
    refused(changed({ [bias]: undefined }), /1 missing: classifier\.bias/);
    refused(changed({ "head.weight": tensor([1], [1]) }), /1 not part of the model: head\.weight/);
    refused(changed({ [bias]: tensor([3], [1, 2, 3]) }), /classifier\.bias \(expected \[2\], got \[3\]\)/);
    refused(
      changed({ [bias]: tensor([2], [1, 2], "I64") }),
      /"classifier\.bias" to hold floating-point numbers, it is I64/,
    );
    refused(changed({ [bias]: 1 }), /"classifier\.bias" is a number/);
    refused(
      changed({ [bias]: new Reduce(new Global("a", "b"), new Tuple()) }),
      /"classifier\.bias" is an object of "a\.b"/,
    );
    refused(changed({ "x.num_batches_tracked": new Global("a", "b") }), /"a\.b"/);
  });

  it("half precision and double become single", () => {
    const name = "classifier.bias";
    const withBias = (dtype: "F16" | "BF16" | "F64", data: Uint8Array) =>
      writeSafetensors(new Map([...weights(), [name, { dtype, shape: [2], data }]]), new Map());
    for (const file of [
      withBias("F16", new Uint8Array(Uint16Array.of(0x3e00, 0xc000).buffer)),
      withBias("BF16", new Uint8Array(Uint16Array.of(0x3fc0, 0xc000).buffer)),
      withBias("F64", new Uint8Array(Float64Array.of(1.5, -2).buffer)),
    ]) {
      const { data } = importCheckpoint(file, { spec: SPEC }).tensors.get(name)!;
      assert.deepEqual([...new Float32Array(data.buffer, data.byteOffset, 2)], [1.5, -2]);
    }
  });

  it("candidates are as many as the gate has scores for, and the table says so", () => {
    const { candidates, model } = importCheckpoint(saveZip(stateDict(weights())), { spec: SPEC });
    assert.deepEqual(
      [candidates, (model.spec as ModelSpec).candidates],
      [
        [0, 1],
        [0, 1],
      ],
    );
    const window = { ...SPEC, candidates: [1, 2] };
    assert.deepEqual(importCheckpoint(saveZip(stateDict(weights())), { spec: window }).candidates, [1, 2]);
    const head = "blocks.0.first_block.gate.gate.0.weight";
    refused(
      changed({ [head]: tensor([4, 1, 1, 1], [1, 2, 3, 4]) }),
      /gate\.gate\.0\.weight \(expected \[3,1,1,1\], got \[4,1,1,1\]\)/,
    );
  });

  it("a width is calibrated where every norm on its way has been measured", () => {
    const untouched = (norm: string) =>
      Object.fromEntries(
        ["running_mean", "running_var"].map((kind, i) => {
          const { shape } = weights().get(`${norm}.${kind}`)!;
          return [`${norm}.${kind}`, tensor(shape, Array(shape[0]).fill(i))];
        }),
      );
    const calibrated = (...norms: string[]) =>
      importCheckpoint(changed(Object.assign({}, ...norms.map(untouched))), { spec: SPEC }).calibrated;
    assert.deepEqual(calibrated(), [0, 1, 2, "largest"]);
    assert.deepEqual(calibrated("bn1.aux_bn.1"), [0, 1, 2], "as a recalibration of the published code leaves it");
    assert.deepEqual(calibrated("bn1.aux_bn.0"), ["largest"]);
    assert.deepEqual(calibrated("blocks.0.first_block.bn2.aux_bn.1"), [0, 2, "largest"]);
    assert.deepEqual(calibrated("blocks.0.residual_blocks.0.bn1.aux_bn.2"), [0, 1]);
    // Mean 0 alone, or variance 1 alone, may have been measured.
    const mean = weights().get("bn1.aux_bn.1.running_mean")!;
    const half = changed({ "bn1.aux_bn.1.running_mean": tensor(mean.shape, [0, 0, 0, 0]) });
    assert.deepEqual(importCheckpoint(half, { spec: SPEC }).calibrated, [0, 1, 2, "largest"]);
  });

  it("labels are as many as classes, and numbers where none are given", () => {
    const file = saveZip(stateDict(weights()));
    assert.deepEqual(importCheckpoint(file, { spec: SPEC }).classes, ["0", "1"]);
    assert.deepEqual(importCheckpoint(file, { spec: SPEC, classes: ["cat", "dog"] }).classes, ["cat", "dog"]);
    assert.throws(() => importCheckpoint(file, { spec: SPEC, classes: ["cat"] }), UsageError);
  });

  it("finds the registry's model by its tensors, with the file's number of classes", () => {
    const small = { ...modelSpec("ds_mbnet_28"), classes: 3 };
    const file = writeSafetensors(weights(small, [0, 1, 2, 3]), new Map());
    for (const options of [{}, { model: "ds_mbnet_28" }]) {
      const { model, candidates, classes } = importCheckpoint(file, options);
      assert.deepEqual([model.name, candidates, classes], ["ds_mbnet_28", [0, 1, 2, 3], ["0", "1", "2"]]);
    }
    refused(file, /As ds_mbnet_32: The file's tensors do not fit/, { model: "ds_mbnet_32" });
    refused(saveZip(stateDict(weights())), /fit no model of the registry \(ds_mbnet,/, {});
    assert.throws(() => importCheckpoint(file, { model: "resnet" }), UsageError);
  });

  it("the published network: 224 pixels, ImageNet's statistics, bicubic, crop 0.875, four candidates", () => {
    const file = writeSafetensors(weights(modelSpec("ds_mbnet"), [0, 1, 2, 3]), new Map());
    const { model, preprocessing, candidates, classes, calibrated } = importCheckpoint(file);
    assert.deepEqual([model.name, candidates, classes.length, classes.at(-1)], ["ds_mbnet", [0, 1, 2, 3], 1000, "999"]);
    assert.equal(calibrated!.length, 15);
    assert.deepEqual(preprocessing, {
      ...{ height: 224, width: 224, channels: 3, interpolation: "bicubic", cropPct: 0.875 },
      ...{ mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
    });
  });

  it("what comes out is a model file, which is not imported again", () => {
    const model = importCheckpoint(saveZip(stateDict(weights())), { spec: SPEC });
    const bytes = encodeModel(model);
    assert.deepEqual(decodeModel(bytes).calibrated, model.calibrated);
    refused(bytes, /a model of dsnet already/);
  });

  const skip = lacks("checkpoints/checkpoint-3.safetensors");
  it("torch's own checkpoints of the small network, bit for bit", { skip }, () => {
    const { image_size, ...config } = parityConfig("tiny");
    const spec = { ...paritySpec(config, image_size), candidates: null };
    const reference = readFileSync(`${parityRoot}/checkpoints/checkpoint-3.safetensors`);
    for (const file of ["checkpoint-3-zip.pth.tar", "checkpoint-3-legacy.pth.tar", "checkpoint-3.safetensors"]) {
      const bytes = readFileSync(`${parityRoot}/checkpoints/${file}`);
      for (const [ema, entry] of [
        [false, "state_dict."],
        [true, "state_dict_ema."],
      ] as const) {
        const { tensors, candidates } = importCheckpoint(bytes, { spec, ema });
        const want = [...readSafetensors(reference).tensors]
          .filter(([name]) => name.startsWith(entry) && !name.endsWith("num_batches_tracked"))
          .map(([name, tensor]) => [name.slice(entry.length), tensor] as const);
        sameBytes(tensors, new Map(want));
        assert.deepEqual(candidates, [0, 1, 2, 3]);
      }
    }
  });
});
