/** A cascade: the slimmest width's bits where it is sure, those of the wider one where it is not, and nothing copied. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { candidateCosts, madds, maddsBeforeGate } from "../../src/cost/madds.js";
import { load } from "../../src/engine/load.js";
import { Plan } from "../../src/engine/plan.js";
import { measureCalibration, routingWithin } from "../../src/evaluate/calibrate.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { gateCount, type ModelSpec } from "../../src/models/spec.js";
import { confidenceOf } from "../../src/ops/softmax.js";
import { Philox } from "../../src/random/philox.js";
import { sampleModel, stripes } from "../support/model.js";
import { gateWithin, randomImages, randomSpan, smallSpecs } from "../support/networks.js";

const backends = [await openBackend({ threads: 2 }), await openBackend({ device: "wasm", threads: 1 })];
after(() => {
  for (const backend of backends) backend.dispose();
});

const N = 12;
/** Each image of another brightness. */
const imagesOf = (spec: ModelSpec, seed: number) => {
  const images = randomImages(spec, N, seed);
  return images.map((value, i) => value * (1 + Math.floor((i * N) / images.length)));
};
/** With so large activations before the gate that a plan takes images one after the other up to it. */
const large: ModelSpec = {
  ...modelSpec("ds_mbnet_32"),
  description: "large images",
  input: { height: 64, width: 64, channels: 3 },
};
const specs = [...smallSpecs, gateWithin, modelSpec("ds_mbnet_28"), large].filter((spec) => gateCount(spec) === 1);

describe("a cascade in a plan", () => {
  for (const backend of backends) {
    for (const [seed, spec] of specs.entries()) {
      it(`${spec.description}, ${backend.build}: the bits of the width that answers, in any batch`, () => {
        const net = build(spec);
        const span = randomSpan(backend, net, seed);
        const images = imagesOf(spec, seed);
        const size = images.length / N;
        const one = new Plan(backend, net, span, { batch: 1 });
        const many = new Plan(backend, net, span, { batch: N });
        const { candidates } = net.gates[0]!;
        const read = (plan: Plan, n: number) => backend.f32.slice(plan.logits / 4, plan.logits / 4 + n * spec.classes);
        const at = (slot: number) => {
          backend.f32.set(images, many.input / 4);
          many.run(N, slot);
          const logits = read(many, N);
          return Array.from({ length: N }, (_, i) => logits.slice(i * spec.classes, (i + 1) * spec.classes));
        };
        const slim = at(candidates[0]!);
        const confidences = slim.map((row) => confidenceOf(row)).sort((a, b) => a - b);
        const middle = (confidences[N / 2 - 1]! + confidences[N / 2]!) / 2;
        for (const wider of candidates.slice(1)) {
          const wide = at(wider);
          for (const threshold of [0, middle, 2]) {
            const isUnsure = slim.map((logits) => confidenceOf(logits) < threshold);
            const want = slim.map((logits, i) => (isUnsure[i] ? wide[i]! : logits));
            const routes = isUnsure.map((unsure) => [unsure ? wider : candidates[0]!]);
            backend.f32.set(images, many.input / 4);
            assert.deepEqual(many.runCascade(N, { wider, threshold }), routes);
            assert.deepEqual(read(many, N), Float32Array.from(want.flatMap((logits) => [...logits])));
            for (let i = 0; i < N; i++) {
              backend.f32.set(images.subarray(i * size, (i + 1) * size), one.input / 4);
              assert.deepEqual(one.runCascade(1, { wider, threshold }), [routes[i]]);
              assert.deepEqual(read(one, 1), want[i]);
            }
            const unsure = isUnsure.filter(Boolean).length;
            assert.equal(unsure, threshold === 0 ? 0 : threshold === 2 ? N : N / 2, "as many as the threshold parts");
          }
        }
        for (const plan of [one, many]) plan.dispose();
      });
    }
  }

  it("goes on from where the gate stands: nothing is copied but the logits, nothing allocated", () => {
    const [, backend] = backends;
    const net = build(modelSpec("ds_mbnet_28"));
    const span = randomSpan(backend!, net, 1);
    const plan = new Plan(backend!, net, span, { batch: 1 });
    backend!.f32.set(randomImages(net.spec, 1, 1), plan.input / 4);
    const { u8 } = backend!;
    const copyWithin = u8.copyWithin.bind(u8);
    const inUse = backend!.arena.inUse;
    let copied = 0;
    u8.copyWithin = (target, start, end) => {
      copied += end! - start;
      copyWithin(target, start, end);
      return u8;
    };
    plan.runCascade(1, { wider: 5, threshold: 0 });
    assert.equal(copied, 4 * net.spec.classes);
    plan.runCascade(1, { wider: 5, threshold: 2 });
    assert.equal(copied, 3 * 4 * net.spec.classes);
    assert.equal(backend!.arena.inUse, inUse);
    Reflect.deleteProperty(u8, "copyWithin");
    plan.dispose();
  });

  it("needs a network with one gate", () => {
    const [backend] = backends;
    const net = build(modelSpec("ds_resnet"));
    const span = randomSpan(backend!, net, 1);
    const plan = new Plan(backend!, net, span, { batch: 1 });
    assert.throws(
      () => plan.runCascade(1, { wider: 3, threshold: 0.5 }),
      /a cascade needs a network with one gate, this one has 7/,
    );
    plan.dispose();
  });

  it("costs the slimmest width and, of the wider one, what lies behind the gate", () => {
    const net = build(modelSpec("ds_mbnet_32"));
    const costs = candidateCosts(net, "cascade");
    assert.equal(costs[0], madds(net, 0, true));
    for (let k = 1; k < net.widths; k++) {
      assert.equal(costs[k], madds(net, 0, true) + madds(net, k, true) - maddsBeforeGate(net));
      assert.ok(costs[k]! < madds(net, 0) + madds(net, k));
    }
  });
});

describe("a model that chooses by a cascade", async () => {
  const sample = await sampleModel();
  const images = stripes(64);
  const point = (wider: number, threshold: number, madds: number, unsure: number) => ({
    wider,
    threshold,
    madds,
    accuracy: 0.5,
    shares: [1 - unsure, ...[1, 2, 3, 4, 5].map((k) => (k === wider ? unsure : 0))],
  });
  const costs = candidateCosts(build(modelSpec("ds_mbnet_28")), "cascade");
  /** The sample with a table of three cascades: all go on at width 5, all at 3, none. */
  const file: ModelFile = {
    ...sample,
    routing: { by: "cascade", wider: 3, threshold: 1 },
    cascades: [point(5, 1, costs[5]!, 1), point(3, 1, costs[3]!, 1), point(1, 0, costs[0]!, 0)],
  };

  it("answers with the width where it ended, at the cost of both", async () => {
    const network = await load(encodeModel(file), { device: "wasm", threads: 1 });
    const fixed = await network.classify(images, { width: 3 });
    const own = await network.classify(images);
    own.forEach(({ labels, route, madds }, i) => {
      assert.deepEqual(labels, fixed[i]!.labels);
      assert.deepEqual([route[0]!.width, route.length, madds], [3, 1, costs[3]]);
    });
    const [slim] = await network.classify(images[0]!, { width: 0 });
    for (const budget of [{ madds: costs[3]! - 1 }, { width: 0 }]) {
      const [cheap] = await network.classify(images[0]!, { budget });
      assert.deepEqual([cheap!.labels, cheap!.route[0]!.width, cheap!.madds], [slim!.labels, 0, costs[0]]);
    }
    const [dear] = await network.classify(images[0]!, { budget: { madds: 1e9 } });
    assert.deepEqual([dear!.route[0]!.width, dear!.madds], [5, costs[5]]);
    await assert.rejects(network.classify(images[0]!, { budget: { madds: costs[0]! - 1 } }), {
      code: "ERR_USAGE",
      message: new RegExp(`this model spends ${costs[0]} to ${costs[5]}`),
    });
    network.dispose();
  });

  it("needs a table for budgets", async () => {
    const { cascades: _, ...bare } = file;
    const network = await load(encodeModel(bare), { device: "wasm", threads: 1 });
    await assert.rejects(network.classify(images[0]!, { budget: { madds: 1e9 } }), /no budget table/);
    network.dispose();
  });

  it("is refused where a width is none of the candidates", async () => {
    const wrong = { ...file, routing: { by: "cascade" as const, wider: 9, threshold: 0.5 } };
    await assert.rejects(load(encodeModel(wrong)), {
      code: "ERR_FORMAT",
      message: /the cascade's wider width of a ds_mbnet_28 to be one of the candidates 0, 1, 2, 3, 4, 5, got 9/,
    });
  });
});

describe("a cascade's table", () => {
  it("is what the engine then spends and achieves on the same images", async () => {
    const [backend] = backends;
    const spec = modelSpec("ds_mbnet_28");
    const net = build(spec);
    const span = randomSpan(backend!, net, 2);
    const n = 96;
    const pixels = randomImages(spec, n, 2).map((value, i) => value * (1 + (Math.floor(i / 784) % 7)));
    const random = new Philox(0, "labels");
    const labels = Int32Array.from({ length: n }, () => random.int(spec.classes));
    async function* batches() {
      yield { images: pixels, labels, indices: Int32Array.from(labels.keys()), size: n };
    }
    const tables = await measureCalibration(backend!, net, span, batches(), { batch: n });
    const points = tables.cascades!;
    const costs = candidateCosts(net, "cascade");
    assert.ok(points.length > 2, `${points.length} points`);
    const plan = new Plan(backend!, net, span, { batch: n });
    backend!.f32.set(pixels, plan.input / 4);
    points.forEach(({ wider, threshold, madds, accuracy, shares }, i) => {
      if (i > 0) assert.ok(madds < points[i - 1]!.madds);
      const routes = plan.runCascade(n, { wider, threshold });
      const spent = routes.reduce((sum, [k]) => sum + costs[k!]!, 0) / n;
      assert.ok(Math.abs(spent - madds) <= 1e-9 * madds);
      const right = routes.filter((_, image) => {
        const at = plan.logits / 4 + image * spec.classes;
        const row = backend!.f32.subarray(at, at + spec.classes);
        return row.indexOf(Math.max(...row)) === labels[image];
      });
      assert.ok(Math.abs(right.length / n - accuracy) < 1e-12);
      shares!.forEach((share, k) => {
        assert.ok(Math.abs(routes.filter(([width]) => width === k).length / n - share) < 1e-12);
      });
    });
    assert.deepEqual(routingWithin(tables, "cascade", points[1]!.madds), {
      by: "cascade",
      wider: points[1]!.wider,
      threshold: points[1]!.threshold,
    });
    plan.dispose();
  });
});
