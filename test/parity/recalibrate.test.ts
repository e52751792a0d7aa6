/** Norm statistics measured anew, by each of the reference's procedures. */
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { walkNetwork } from "../../src/models/build.js";
import { NORM_MOMENTUM } from "../../src/nn/layers.js";
import { Tape } from "../../src/ops/tape.js";
import type { Tensor } from "../../src/ops/tensor.js";
import { TrainExec } from "../../src/train/forward.js";
import { Input } from "../../src/train/input.js";
import { Recalibration } from "../../src/train/recalibrate.js";
import { Comparison, lacks, parityBackends, readValues, tolerancesOf, toNHWC } from "../support/parity.js";
import { type Folder, folders, parityNet, parityWeights, valuesOf } from "../support/parity-networks.js";

const all = await parityBackends();

/** The reference's procedures: our two forms, and the published one with `largest` after the numbered widths. */
const procedures = {
  "momentum.widths": { compat: "published", largest: false },
  "momentum.widths_largest": { compat: "published", largest: true },
  "mean.widths_largest": { compat: "paper", largest: false },
} as const;

function check(backend: Backend, folder: Folder, name: keyof typeof procedures, comparison: Comparison): void {
  const { compat, largest } = procedures[name];
  const net = parityNet(folder);
  const span = parityWeights(backend, net, folder);
  const values = readValues(`${folder}/recalibrate.safetensors`);
  const n = values.get("batch0")!.shape[0]!;
  const input = new Input(backend, net, n);
  const recalibration = new Recalibration(backend, net, span, compat);
  for (const batch of ["batch0", "batch1"]) {
    const images = input.write(toNHWC(values.get(batch)!), new Int32Array(n));
    recalibration.add(images);
    if (!largest) continue;
    backend.arena.scope(() => {
      const weights = { span, grads: 0, transposed: null };
      const options = { momentum: () => NORM_MOMENTUM, route: "largest" } as const;
      const exec = new TrainExec(new Tape(backend, false), weights, options);
      walkNetwork<Tensor>(net.steps, exec, images, "largest");
    });
  }
  const got = valuesOf(backend, net, span);
  for (const [key, { data }] of values) {
    if (key.startsWith(`${name}.`)) comparison.near(key, got.get(key.slice(name.length + 1))!, data);
  }
  input.dispose();
  backend.arena.free(span);
}

describe("recalibration", () => {
  for (const folder of folders) {
    const skip = lacks(`${folder}/recalibrate.safetensors`);
    for (const backend of all) {
      it(`${folder}: published, published with largest, plain average`, { skip }, (t) => {
        const comparison = new Comparison(tolerancesOf(folder, "recalibrate"));
        for (const name of Object.keys(procedures) as (keyof typeof procedures)[]) {
          check(backend, folder, name, comparison);
        }
        comparison.report(t, backend);
      });
    }
  }
});
