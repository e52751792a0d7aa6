import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { madds, parameterCount } from "../../src/cost/madds.js";
import { build } from "../../src/models/build.js";
import { listModels, modelSpec } from "../../src/models/registry.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { tableOf } from "../../src/train/table.js";

const model = "ds_mbnet_32";
const config = defaultConfig(model);
const gate = (change: object) => ({ ...config, gate: { ...config.gate, ...change } });

describe("the network that a configuration asks for", () => {
  it("is the model's own where nothing is said", () => {
    for (const name of listModels()) {
      assert.deepEqual(tableOf(defaultConfig(name)), { name, spec: modelSpec(name) });
    }
  });

  it("is one width alone, with that width's cost and parameters and no gate", () => {
    const net = build(modelSpec(model));
    const heads = net.layout.params.filter(({ role }) => role.startsWith("gate")).reduce((sum, p) => sum + p.size, 0);
    for (let width = 0; width < net.widths; width++) {
      const { name, spec } = tableOf({ ...config, width });
      const alone = build(spec);
      assert.equal(name, `${model}_width_${width}`);
      assert.deepEqual([alone.widths, alone.gates], [1, []]);
      assert.equal(madds(alone, 0), madds(net, width));
      assert.equal(parameterCount(alone, 0), parameterCount(net, width) - heads);
    }
    assert.throws(() => tableOf({ ...config, width: net.widths }), /width: expected 0 to 5, .* got 6/);
  });

  it("holds its gate in another stage, and costs the same at every width where the stages before have one width", () => {
    const net = build(modelSpec(model));
    for (const stage of [0, 1, 2]) {
      const moved = build(tableOf(gate({ stage })).spec);
      assert.match(moved.gates[0]!.name, new RegExp(`^blocks\\.${stage}\\.`));
      for (let width = 0; width < net.widths; width++) assert.equal(madds(moved, width), madds(net, width));
    }
    assert.throws(() => tableOf(gate({ stage: 5 })), /gate\.stage: expected 0 to 4, .* got 5/);
    const several = defaultConfig("ds_resnet");
    const moved = { ...several, gate: { ...several.gate, stage: 1 } };
    assert.throws(() => tableOf(moved), /gate\.stage moves the only gate of a network; ds_resnet has 7/);
  });

  it("has the paper's gate with no hidden layer: no bias either", () => {
    const [paper] = build(tableOf(gate({ hidden: 0, method: "expectation" })).spec).gates;
    assert.deepEqual([paper!.hidden, paper!.head.bias], [null, null]);
    const [ours] = build(tableOf(gate({ hidden: 8 })).spec).gates;
    assert.deepEqual([ours!.hidden!.cout, ours!.head.bias === null, ours!.act], [[8], false, "sigmoid"]);
    const [linear] = build(tableOf(gate({ hidden: 0 })).spec).gates;
    assert.deepEqual([linear!.hidden, linear!.head.bias === null, linear!.act], [null, false, "sigmoid"]);
  });

  it("without attention lets the gate read the pooled activation, refused where its width is not known", () => {
    const net = build(tableOf({ ...config, attention: "off" }).spec);
    assert.ok(!net.convs.some(({ name }) => /conv_(reduce|expand)$/.test(name)));
    assert.deepEqual(net.gates[0]!.hidden!.cin, [40], "channels of the stage before");
    const large = tableOf({ ...defaultConfig("ds_mbnet"), attention: "off" });
    assert.throws(() => build(large.spec), /stage 3: where several widths come in, a gate needs attention > 0/);
  });
});
