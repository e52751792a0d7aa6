/** MAdds of every mode, at every size, and layer by layer. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { layerCosts, madds } from "../../src/cost/madds.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { readJson } from "../support/parity.js";
import { folders, parityConfig, parityNet, paritySpec, slotOf } from "../support/parity-networks.js";

interface Counts {
  gate_head?: number[];
  sizes: Record<string, Record<string, number>>;
  layers_width0?: [string, number][];
  layers_largest?: [string, number][];
}

/** Our kinds as the reference's. */
const KINDS = { conv: ["conv", "linear"], depthwise: ["dw"], pool: ["pool"], gate: [] as string[] };

describe("MAdds", () => {
  for (const folder of folders) {
    it(`${folder}: totals of every mode and size`, () => {
      const config = parityConfig(folder);
      for (const [size, totals] of Object.entries(readJson<Counts>(`${folder}/madds.json`).sizes)) {
        const net = build(paritySpec(config, Number(size)));
        for (const [mode, total] of Object.entries(totals)) {
          assert.equal(madds(net, slotOf(mode)), total, `${mode} at ${size}`);
        }
      }
    });

    it(`${folder}: every layer in order of execution, and the slimming head`, () => {
      const net = parityNet(folder);
      const want = readJson<Counts>(`${folder}/madds.json`);
      for (const mode of ["width0", "largest"] as const) {
        const list = want[`layers_${mode}`]!;
        const got = layerCosts(net, slotOf(mode));
        assert.deepEqual(
          got.map((layer) => layer.madds),
          list.map(([, cost]) => cost),
        );
        got.forEach((layer, i) => {
          assert.ok(KINDS[layer.kind].includes(list[i]![0]), `${layer.name} is a ${layer.kind}, not a ${list[i]![0]}`);
        });
      }
      const heads = layerCosts(net, 0, true).filter((layer) => layer.kind === "gate");
      assert.deepEqual(
        heads.map((layer) => layer.madds),
        want.gate_head,
      );
    });
  }

  it("ds_mbnet: totals of every mode and size", () => {
    const spec = modelSpec("ds_mbnet");
    for (const [size, totals] of Object.entries(readJson<Counts>("full/madds.json").sizes)) {
      const net = build({ ...spec, input: { height: Number(size), width: Number(size), channels: 3 } });
      for (const [mode, total] of Object.entries(totals)) {
        assert.equal(madds(net, slotOf(mode)), total, `${mode} at ${size}`);
      }
    }
  });
});
