import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { asFloat32 } from "../../src/io/float32.js";
import { decodeModel, selectTensors } from "../../src/io/model-file.js";
import { learningRate } from "../../src/train/schedule.js";
import { train } from "../../src/train/train-node.js";
import { temporaryFolder } from "../data/support.js";
import { smallConfig, writeImages } from "./small-run.js";

const folder = temporaryFolder();
const data = writeImages(join(folder, "data"));

/** What SGD trains, without the statistics. */
function weights(file: string, kind: "parameters" | "swa"): Map<string, Float32Array> {
  const tensors = selectTensors(decodeModel(readFileSync(file)).tensors, kind);
  const trained = [...tensors].filter(([name]) => !name.includes("running_"));
  return new Map(trained.map(([name, tensor]) => [name, asFloat32(tensor)]));
}

describe("a run with swa_epochs", () => {
  it("ends with the mean of these epochs' weights, at the rate with which they began", async () => {
    const config = smallConfig(data, join(folder, "run"), "probability");
    Object.assign(config, { epochs: 3, swa_epochs: 2, recovery_interval: 1 });
    config.gate.epochs = 0;
    const last = join(config.output, "last.safetensors");
    const students: Map<string, Float32Array>[] = [];
    const rates = new Set<number>();
    const { model } = await train(config, {
      onEvent: (event) => {
        if ((event.type !== "step" && event.type !== "epoch") || event.epoch === 1) return;
        if (event.type === "step") rates.add(event.lr);
        // A step is saved behind its event, an epoch's last one before the epoch's.
        if (event.type === "epoch" || event.step > 1) students.push(weights(last, "parameters"));
      },
    });
    assert.deepEqual([...rates], [learningRate(config, 1)]);
    assert.equal(students.length, 2 * Math.floor(90 / config.batch_size));
    const average = weights(last, "swa");
    assert.deepEqual(weights(model, "parameters"), average);
    for (const [name, got] of average) {
      got.forEach((value, i) => {
        const expected = students.reduce((sum, student) => sum + student.get(name)![i]!, 0) / students.length;
        assert.ok(Math.abs(value - expected) <= 1e-5 * Math.max(1e-2, Math.abs(expected)), `${name} ${i}`);
      });
    }
  });
});
