/** The models that come with the package, whichever are there, and the page that tells of each. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { describe, it } from "node:test";
import { type Evaluation, evaluate } from "../../src/evaluate/evaluate.js";
import { withHalfWeights } from "../../src/io/compact.js";
import { encodeModel, routingOf } from "../../src/io/model-file.js";
import { modelPath, readModelFile, shippedModels } from "../../src/io/model-file-node.js";
import { networkOf } from "../../src/models/file.js";
import { val } from "../../src/train/index.js";
import { bits, build, route } from "../evaluate/build.js";
import { sampleModel } from "../support/model.js";

const names = shippedModels();
const script = new URL("../../../scripts/model-card.mjs", import.meta.url);
const { DATA, modelCard } = await import(script.href);

describe("the shipped models", { skip: names.length > 0 ? false : "no model is shipped yet" }, () => {
  it("are less than 8 MB together, and nothing but models and their cards lies with them", () => {
    const bytes = names.map((name) => statSync(modelPath(name)).size);
    assert.ok(bytes.reduce((a, b) => a + b, 0) < 8e6, `${bytes} bytes`);
    const files = names.flatMap((name) => [`${name}.md`, `${name}.safetensors`]);
    assert.deepEqual(readdirSync(dirname(modelPath(names[0]!))).sort(), files.sort());
  });

  for (const name of names) {
    it(`${name}: a trained gate, labels, preprocessing, budgets, figures, and no state of training`, async () => {
      const file = await readModelFile(name);
      const net = networkOf(file);
      assert.equal(basename(modelPath(name)), `${name}.safetensors`);
      assert.equal(new Set(file.classes).size, 10);
      assert.ok(
        file.classes.every((label) => /[a-z]{3}/i.test(label)),
        "labels are words",
      );
      assert.ok(file.preprocessing.mean.every((mean) => mean > 0 && mean < 1));
      assert.deepEqual(file.candidates, [...net.gates[0]!.candidates]);
      for (let width = 0; width < net.widths; width++) assert.ok(file.calibrated!.includes(width), `width ${width}`);
      assert.ok(file.calibration!.length > 10);
      // As many as gain something: where a few unsure images are all that a wider width helps, they are few.
      assert.ok(file.cascades!.length > 4);
      assert.ok(file.cascades!.every(({ madds }, i, all) => i === 0 || madds < all[i - 1]!.madds));
      assert.ok([...file.calibration!, ...file.cascades!].every(({ shares }) => shares !== undefined));
      const { rows, classNames } = file.results as Evaluation;
      assert.deepEqual(classNames, file.classes);
      const rival = routingOf(file).by === "gate" ? "cascade" : "gate";
      for (const kind of ["width", "dynamic", "envelope", "random", rival, "oracle"]) {
        const row = rows.find((one) => one.kind === kind);
        assert.ok(row?.accuracy !== null && row!.accuracy > 0.5, kind);
      }
      assert.equal(file.training, undefined);
      assert.ok([...file.tensors.keys()].every((tensor) => !/^(ema|optimizer)\./.test(tensor)));
    });

    it(`${name}: its figures are what val finds`, async (t) => {
      const data = DATA[name].path;
      if (!existsSync(data)) return t.skip(`there is no ${data}`);
      const { samples, rows } = await val(name, { data });
      const told = (await readModelFile(name)).results as Evaluation;
      assert.equal(samples, told.samples);
      assert.deepEqual(
        rows.map(({ kind, width }) => [kind, width]),
        told.rows.map(({ kind, width }) => [kind, width]),
      );
      for (const [i, { kind, accuracy, madds }] of rows.entries()) {
        // Another kernel build differs in last bits, which a few images in ten thousand hang on.
        assert.ok(Math.abs(accuracy! - told.rows[i]!.accuracy!) < 1e-3, kind);
        assert.ok(Math.abs(madds! / told.rows[i]!.madds! - 1) < 1e-3, kind);
      }
    });

    it(`${name}: its card is what the script makes of the file`, () => {
      const card = readFileSync(modelPath(name).replace(/safetensors$/, "md"), "utf8");
      assert.equal(card, modelCard(name, new Uint8Array(readFileSync(modelPath(name)))));
    });
  }
});

describe("a model's card", () => {
  it("has the file's facts, labels, figures and budgets", async () => {
    const p = build([
      { madds: 12.34e6, correct: bits("1111100000") },
      { madds: 24.68e6, correct: bits("1111111110") },
    ]);
    const results = evaluate({ ...p, dynamic: route(p, [0, 0, 0, 0, 0, 1, 1, 1, 1, 0], 1e5) });
    const calibration = [0, 1, 2].map((lambda) => ({
      lambda,
      madds: (2.5 - lambda) * 1e7,
      accuracy: 0.9 - lambda / 10,
    }));
    const sample = { ...(await sampleModel()), results, calibration, kernelBuild: "wasm-simd128" };
    const bytes = encodeModel(sample);
    const card: string = modelCard("fashion", bytes);
    for (const line of [
      "# fashion",
      "dsnet predict IMAGE --model fashion",
      "In the order of the logits: class 0, class 1, class 2, class 3, class 4, class 5, class 6, class 7, class 8, class 9.",
      "| width 1 | 24.68 | 100.0 | 90.00 |  |",
      "| dynamic | 17.38 | 70.4 | 90.00 | by the gate, its cost included |",
      "- 10 validation images; intervals are 95 %, paired.",
      "| 25.0 M | 101.3 | 90.00 |",
      "| 5.00 M | 20.3 | 70.00 |",
    ]) {
      assert.ok(card.split("\n").includes(line), `lacks ${line}`);
    }
    assert.match(
      card,
      /It has 2 widths, of 12\.3 M to 24\.7 M multiply-adds.* its gate chooses one\. .* its weights in fp32; /,
    );
    assert.match(card, /minus 0\.4000, divided by 0\.3000\./);
    assert.match(card, /kernel build wasm-simd128/);
    assert.doesNotMatch(card, /undefined|NaN|\[object/);
    assert.match(modelCard("fashion", encodeModel({ ...withHalfWeights(sample), results })), /its weights in fp16; /);
  });
});
