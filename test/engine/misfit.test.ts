import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { load } from "../../src/engine/load.js";
import { describeModel } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { sampleModel } from "../support/model.js";

describe("a model file whose parts do not fit each other", () => {
  let file: ModelFile;
  before(async () => {
    file = await sampleModel();
  });

  it("is refused by name of the part", async () => {
    const { model, preprocessing } = file;
    const wrong: [Partial<ModelFile>, RegExp][] = [
      [{ model: { ...model, spec: {} } }, /spec makes no network/],
      [{ model: { ...model, spec: null } }, /spec makes no network/],
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
