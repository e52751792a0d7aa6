/** The models of the registry: their costs where the literature has them, and that every slice is a network. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { nativeIsas } from "../../src/backend/native.js";
import { openBackend } from "../../src/backend/open.js";
import { madds, parameterCount } from "../../src/cost/madds.js";
import { build } from "../../src/models/build.js";
import { listModels, modelSpec } from "../../src/models/registry.js";
import { sliceModel } from "../../src/models/slice.js";
import type { ModelSpec, StageSpec } from "../../src/models/spec.js";
import type { Route } from "../../src/nn/width.js";
import { Philox } from "../../src/random/philox.js";
import { randomImages } from "../support/networks.js";
import { fileOf, logitsOf } from "../support/slices.js";

const backend = await openBackend({ device: "wasm", threads: 1 });
after(() => backend.dispose());

/** At an input size that makes a pass cheap, whatever the model's own. */
function small(name: string): ModelSpec {
  const spec = modelSpec(name);
  const side = Math.min(spec.input.height, 32);
  return { ...spec, classes: 10, input: { ...spec.input, height: side, width: side } };
}

/** Random routes that no uniform width is. */
function mixedRoutes(count: number, gates: number, widths: number): number[][] {
  const random = new Philox(7, "routes");
  const routes = Array.from({ length: count }, () => Array.from({ length: gates }, () => random.int(widths)));
  assert.ok(routes.every((route) => new Set(route).size > 1));
  return routes;
}

for (const device of ["native", "wasm"] as const) {
  const skip = device === "native" && nativeIsas().length === 0 && "the native addon is not built";
  describe(`a slice of a registered model, ${device}`, { skip }, () => {
    for (const name of listModels()) {
      it(`${name}: every width, and routes through several gates, are the bits of a network of its own`, async () => {
        const spec = small(name);
        const { gates, widths } = build(spec);
        const file = fileOf(backend, spec, 4);
        const images = randomImages(spec, 2, 4);
        const mixed = gates.length < 2 ? [] : mixedRoutes(name === "ds_resnet" ? 40 : 2, gates.length, widths);
        const routes: Route[] = [...file.calibrated, ...mixed];
        const whole = await logitsOf(file, device, images, routes);
        for (const [i, route] of routes.entries()) {
          const slice = sliceModel(file, route);
          const [logits] = await logitsOf(slice, device, images, [0]);
          assert.ok(logits!.every(Number.isFinite));
          assert.deepEqual(logits, whole[i], `${route}`);
          const alone = build(slice.model.spec as ModelSpec);
          assert.equal(madds(alone, 0), madds(build(spec), route), `MAdds of ${route}`);
        }
        assert.equal(new Set(whole.map(String)).size, whole.length, "routes compute different things");
      });
    }
  });
}

/** A model's table with one width and no gate. */
function ordinary(spec: ModelSpec, widthOf: (stage: StageSpec, i: number) => number): ModelSpec {
  const stages = spec.stages.map(({ gates: _, squeeze: __, ...stage }, i) => ({
    ...stage,
    widths: [widthOf(stage, i)],
  }));
  return { ...spec, attention: 0, stages };
}

describe("without gates and attention", () => {
  // Parameters as torchvision has them; MAdds of its convolutions and classifier, and of the global pool.
  it("ds_resnet50 is ResNet-50", () => {
    const net = build(ordinary(modelSpec("ds_resnet50"), ({ widths }) => widths.at(-1)!));
    assert.equal(parameterCount(net, 0), 25_557_032);
    assert.equal(madds(net, 0), 4_089_184_256 + 7 * 7 * 2048);
  });

  it("ds_mbnet_v2 is MobileNetV2", () => {
    const widths = [16, 24, 32, 64, 96, 160, 320, 1280];
    const net = build(ordinary(modelSpec("ds_mbnet_v2"), (_, i) => widths[i]!));
    assert.equal(parameterCount(net, 0), 3_504_872);
    assert.equal(madds(net, 0), 300_774_272 + 7 * 7 * 1280);
  });
});

describe("ds_resnet50", () => {
  const net = build(modelSpec("ds_resnet50"));

  it("has seven gates, so 4^7 routes, and MAdds as counted by hand", () => {
    assert.equal(net.gates.length, 7);
    assert.ok(net.gates.every(({ candidates }) => candidates.length === 4));
    assert.equal(madds(net, [1, 3, 0, 2, 2, 0, 3]), byHand([1, 3, 0, 2, 2, 0, 3]));
    for (let k = 0; k < 4; k++) assert.equal(madds(net, k), byHand(Array(7).fill(k)));
  });
});

/** ds_resnet50's MAdds on a route, block by block, from the paper's description alone. */
function byHand(route: number[]): number {
  const gated = [[0], [0, 2], [0, 3], [0, 1]];
  let total = 112 * 112 * 64 * 3 * 49;
  let [stream, size, gate, slot] = [64, 56, 0, 0];
  [3, 4, 6, 3].forEach((repeat, stage) => {
    for (let j = 0; j < repeat; j++) {
      const stride = j === 0 && stage > 0 ? 2 : 1;
      const out = size / stride;
      const hasGate = gated[stage]!.includes(j);
      if (hasGate) slot = route[gate++]!;
      const width = (256 * 2 ** stage * (slot + 1)) / 4;
      const reduced = hasGate ? 64 : width / 4;
      total += size ** 2 * stream * reduced;
      if (hasGate) total += size ** 2 * 64 + 2 * 64 * 16;
      total += out ** 2 * (9 * reduced * (width / 4) + (width / 4) * width);
      if (j === 0) total += out ** 2 * stream * width;
      stream = j === 0 ? width : Math.max(stream, width);
      size = out;
    }
  });
  return total + 49 * stream + stream * 1000;
}
