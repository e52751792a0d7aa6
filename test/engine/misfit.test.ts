import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { load } from "../../src/engine/load.js";
import { describeModel } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { sampleModel } from "../support/model.js";

describe("a model file whose parts do not fit each other", () => {
  let file: ModelFile;
  before(async () => {
    file = await sampleModel();
  });

  it("is refused by name of the part", async () => {
    const { model, preprocessing } = file;
    const spec = model.spec as ModelSpec;
    const changed = (change: object) => ({ model: { ...model, spec: { ...spec, ...change } } });
    const stage = (change: object) =>
      changed({ stages: spec.stages.map((row, i) => (i === 2 ? { ...row, ...change } : row)) });
    const wrong: [Partial<ModelFile>, RegExp][] = [
      [{ model: { ...model, spec: {} } }, /spec makes no network/],
      [{ model: { ...model, spec: null } }, /spec makes no network/],
      [changed({ act: "relu6" }), /"model\.spec\.act" is wrong: expected swish or relu, got "relu6"/],
      [changed({ norm: "ln" }), /"model\.spec\.norm" is wrong: expected bn or gn/],
      [stage({ kernel: 7 }), /"model\.spec\.stages\.2\.kernel" is wrong: expected 1, 3 or 5, got 7/],
      [stage({ kernel: 1 }), /stage 2: expected a kernel of 3 or 5/],
      [stage({ stride: 3 }), /"model\.spec\.stages\.2\.stride" is wrong: expected 1 or 2/],
      [stage({ gates: [0, 0] }), /"model\.spec\.stages\.2\.gates" is wrong: expected ascending positions/],
      [stage({ repeat: 1e9 }), /"model\.spec\.stages\.2\.repeat" is wrong: expected at most 256/],
      [stage({ dilation: 2 }), /"model\.spec\.stages\.2\.dilation" is wrong: expected no such field/],
      [{ classes: ["one"] }, /classes .* 10 labels, got 1/],
      [{ preprocessing: { ...preprocessing, height: 64, width: 64 } }, /preprocessing .* 28×28×1, got 64×64×1/],
      [{ candidates: [0, 1] }, /candidates .* 0, 1, 2, 3, 4, 5, got 0, 1/],
      [
        { calibration: [{ lambda: 0, madds: 1, accuracy: 1, shares: [0.5, 0.5] }] },
        /calibration's shares .* 6, one a candidate, got 2/,
      ],
      [{ calibrated: [0, 6] }, /calibrated widths .* 0 to 5 or largest, got 6/],
    ];
    for (const [part, message] of wrong) {
      const loaded = load(encodeModel({ ...file, ...part }), { device: "wasm", threads: 1 });
      await assert.rejects(loaded, { code: "ERR_FORMAT", message });
    }
  });
});

describe("a description of a registry model", () => {
  it("refuses layers at a width that the model has not", async () => {
    await assert.rejects(describeModel("ds_mbnet_28", { layersAt: 6 }), {
      code: "ERR_USAGE",
      message: /0 to 5 or largest/,
    });
  });
});
