/** A slice is a network: cut out with weights of its own, and loaded as any other, it gives the same bits. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { nativeIsas } from "../../src/backend/native.js";
import { openBackend } from "../../src/backend/open.js";
import { madds, parameterCount } from "../../src/cost/madds.js";
import { float32Tensor } from "../../src/io/float32.js";
import type { ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import { sliceModel } from "../../src/models/slice.js";
import { checkSpec, type ModelSpec } from "../../src/models/spec.js";
import type { Route, Slot } from "../../src/nn/width.js";
import { Philox } from "../../src/random/philox.js";
import { gateWithin, randomImages, smallSpecs } from "../support/networks.js";
import { fileOf, logitsOf } from "../support/slices.js";

const N = 3;

const backend = await openBackend({ device: "wasm", threads: 1 });
after(() => backend.dispose());

/** Routes through several gates that are no uniform width. */
function mixedRoutes(spec: ModelSpec): number[][] {
  const { gates, widths } = build(spec);
  if (gates.length < 2) return [];
  const random = new Philox(gates.length, "routes");
  const routes = Array.from({ length: 12 }, () => gates.map(() => random.int(widths)));
  const mixed = routes.filter((route) => new Set(route).size > 1);
  return [...new Map(mixed.map((route) => [String(route), route])).values()];
}

const specOf = ({ model }: ModelFile) => model.spec as ModelSpec;

for (const device of ["native", "wasm"] as const) {
  const skip = device === "native" && nativeIsas().length === 0 && "the native addon is not built";
  describe(`a slice, ${device}`, { skip }, () => {
    for (const [seed, spec] of [...smallSpecs, gateWithin].entries()) {
      it(`${spec.description}: every width and route is the bits of a network of its own`, async () => {
        const file = fileOf(backend, spec, seed);
        const images = randomImages(spec, N, seed);
        const routes: Route[] = [...file.calibrated, ...mixedRoutes(spec)];
        const whole = await logitsOf(file, device, images, routes);
        for (const [i, route] of routes.entries()) {
          const [logits] = await logitsOf(sliceModel(file, route), device, images, [0]);
          assert.ok(logits!.every(Number.isFinite));
          assert.deepEqual(logits, whole[i], `${route}`);
        }
        assert.equal(new Set(whole.map(String)).size, whole.length, "widths compute different things");
      });
    }
  });
}

describe("a slice", () => {
  for (const [seed, spec] of [...smallSpecs, gateWithin].entries()) {
    it(`${spec.description}: has one width, no gate, and the weights and costs of that width alone`, () => {
      const file = fileOf(backend, spec, seed);
      const net = build(spec);
      const heads = net.layout.params.filter(({ role }) => role.startsWith("gate")).reduce((sum, p) => sum + p.size, 0);
      let last = 0;
      for (const route of mixedRoutes(spec)) {
        const alone = build(specOf(sliceModel(file, route)));
        assert.deepEqual([alone.widths, alone.gates], [1, []]);
        assert.equal(madds(alone, 0), madds(net, route), `MAdds of ${route}`);
        assert.equal(parameterCount(alone, 0), parameterCount(net, route) - heads, `parameters of ${route}`);
      }
      for (const slot of file.calibrated) {
        const slice = sliceModel(file, slot);
        const alone = build(specOf(slice));
        assert.deepEqual([alone.widths, alone.largestIsNumbered, alone.gates], [1, true, []]);
        assert.equal(madds(alone, 0), madds(net, slot), `MAdds of width ${slot}`);
        assert.equal(parameterCount(alone, 0), parameterCount(net, slot) - heads, `parameters of width ${slot}`);
        const statistics = alone.norms.flatMap(({ stats }) => stats).reduce((sum, { mean }) => sum + 2 * mean.size, 0);
        const bytes = [...slice.tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
        assert.equal(bytes, 4 * (parameterCount(alone, 0) + statistics));
        assert.ok(bytes > last, "a narrower one is smaller");
        last = bytes;
      }
      assert.ok(last <= [...file.tensors.values()].reduce((sum, { data }) => sum + data.length, 0));
    });
  }

  it("keeps the tensors' names, and splits a stage that changes its width on the way", () => {
    const plain = fileOf(backend, smallSpecs[0]!);
    const { tensors } = sliceModel(plain, 2);
    const unnumbered = (names: Iterable<string>) =>
      new Set([...names].map((name) => name.replace(/aux_bn\.\d+/, "aux_bn")));
    const heads = build(smallSpecs[0]!).layout.params.filter(({ role }) => role.startsWith("gate"));
    const names = unnumbered(plain.tensors.keys());
    for (const { name } of heads) assert.ok(names.delete(name));
    assert.deepEqual(unnumbered(tensors.keys()), names);
    const norm = "blocks.1.residual_blocks.0.bn2.aux_bn";
    assert.deepEqual(tensors.get(`${norm}.0.running_mean`), plain.tensors.get(`${norm}.2.running_mean`));
    const within = fileOf(backend, gateWithin);
    const stages = (slot: Slot) =>
      specOf(sliceModel(within, slot)).stages.map(({ repeat, stride, widths }) => ({
        ...{ repeat, stride, width: widths[0] },
      }));
    assert.deepEqual(stages(2), [
      { repeat: 1, stride: 1, width: 8 },
      { repeat: 2, stride: 2, width: 8 },
      { repeat: 2, stride: 1, width: 20 },
      { repeat: 2, stride: 1, width: 28 },
    ]);
    for (const slot of [0, "largest"] as const) assert.equal(stages(slot).length, 3);
  });

  it("keeps classes and preprocessing, and nothing of the gate, the training or the whole network's figures", () => {
    const file = fileOf(backend, smallSpecs[0]!);
    const tensors = new Map(file.tensors);
    for (const [name, tensor] of file.tensors) tensors.set(`ema.${name}`, tensor).set(`optimizer.${name}`, tensor);
    const slice = sliceModel(
      {
        ...file,
        tensors,
        calibration: [{ lambda: 0, madds: 1, accuracy: 1 }],
        routing: { by: "cascade", wider: 1, threshold: 0.5 },
        cascades: [{ wider: 1, threshold: 0.5, madds: 1, accuracy: 1 }],
        training: { stage: "gate", epoch: 1, step: 1 },
        results: {},
        kernelBuild: "wasm-simd128",
      },
      3,
    );
    const { model, tensors: own, ...rest } = slice;
    assert.equal(model.name, "sample_width_3");
    assert.deepEqual(rest, {
      classes: file.classes,
      preprocessing: file.preprocessing,
      candidates: [],
      calibrated: [0],
      kernelBuild: "wasm-simd128",
    });
    assert.deepEqual(own, sliceModel(file, 3).tensors);
  });

  it("of a slice is the same again", () => {
    const slice = sliceModel(fileOf(backend, gateWithin), 2);
    const again = sliceModel(slice, "largest");
    assert.deepEqual(again.tensors, slice.tensors);
    assert.deepEqual(specOf(again).stages, specOf(slice).stages);
  });

  it("without attention is the network whose table has only that width", async () => {
    const [, , odd] = smallSpecs;
    const stages = odd!.stages.map(({ gates: _, ...stage }) => stage);
    const spec: ModelSpec = { ...odd!, attention: 0, candidates: null, stages };
    const file = fileOf(backend, spec);
    const images = randomImages(spec, N, 1);
    // Where nothing chooses there is slot 0, and the widest.
    assert.deepEqual(file.calibrated, [0, "largest"]);
    const whole = await logitsOf(file, "wasm", images, file.calibrated);
    for (const [i, slot] of file.calibrated.entries()) {
      const only = <R extends { widths: number[] }>(row: R): R => ({ ...row, widths: [row.widths.at(-i)!] });
      const table: ModelSpec = { ...spec, stem: only(spec.stem), stages: spec.stages.map(only) };
      const slice = { ...sliceModel(file, slot), model: { name: "plain", spec: table } };
      assert.deepEqual((await logitsOf(slice, "wasm", images, [0]))[0], whole[i]);
    }
  });
});

describe("slicing refuses", () => {
  const file = fileOf(backend, smallSpecs[0]!);

  it("a width that is not there", () => {
    for (const slot of [4, -1, 0.5, "smallest" as never]) {
      assert.throws(() => sliceModel(file, slot), {
        code: "ERR_USAGE",
        message: `width: expected 0 to 3 or largest, got ${slot}`,
      });
    }
  });

  it("a route that does not fit the gates", () => {
    assert.throws(() => sliceModel(file, [0, 1]), {
      code: "ERR_USAGE",
      message: "route: expected a width for each of the 1 gates, got 2",
    });
    assert.throws(() => sliceModel(file, [4]), { code: "ERR_USAGE", message: /expected 0 to 3 or largest, got 4/ });
  });

  it("a width whose statistics were not measured", () => {
    for (const slot of [1, "largest"] as const) {
      assert.throws(() => sliceModel({ ...file, calibrated: [0, 3] }, slot), {
        code: "ERR_UNCALIBRATED",
        message: RegExp(`^width ${slot} has no measured norm statistics; calibrated: 0, 3\\.`),
      });
    }
    const { calibrated: _, ...never } = file;
    assert.throws(() => sliceModel(never, 0), { code: "ERR_UNCALIBRATED", message: /calibrated: none/ });
  });

  it("tensors that are not the network's", () => {
    const tensors = new Map(file.tensors).set("conv_stem.weight", float32Tensor([1], new Float32Array(1)));
    assert.throws(() => sliceModel({ ...file, tensors }, 0), { code: "ERR_FORMAT", message: /conv_stem\.weight/ });
  });

  it("a table that says it was cut from less than it has", () => {
    const [spec] = smallSpecs;
    for (const cutFrom of [11, 12.5, Number.NaN]) {
      assert.throws(() => checkSpec({ ...spec!, stem: { ...spec!.stem, cutFrom } }), {
        code: "ERR_USAGE",
        message: `stem: expected cutFrom to be at least its widest width, 12, got ${cutFrom}`,
      });
    }
    checkSpec({ ...spec!, stem: { ...spec!.stem, cutFrom: 12 } });
  });
});
