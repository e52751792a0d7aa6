/** What onnxruntime makes of our files, against our own engine. Skips where onnxruntime-node is not installed (bench/peers). */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { Plan } from "../../src/engine/plan.js";
import { asFloat32 } from "../../src/io/float32.js";
import { type ModelFile, routingOf, selectTensors } from "../../src/io/model-file.js";
import type { Supernet } from "../../src/models/build.js";
import { networkOf } from "../../src/models/file.js";
import { listModels, modelSpec } from "../../src/models/registry.js";
import { sliceModel } from "../../src/models/slice.js";
import { gateCount, type ModelSpec } from "../../src/models/spec.js";
import { allocSpan, readState, writeState } from "../../src/models/state.js";
import { encodeOnnx } from "../../src/onnx/encode-node.js";
import { onnxModel } from "../../src/onnx/export.js";
import { confidenceOf } from "../../src/ops/softmax.js";
import { Tensor } from "../../src/ops/tensor.js";
import { Philox } from "../../src/random/philox.js";
import { Recalibration } from "../../src/train/recalibrate.js";
import { gateWithin, randomImages, smallSpecs } from "../support/networks.js";
import { fileOf } from "../support/slices.js";

interface OrtTensor {
  data: Float32Array | BigInt64Array;
  dims: readonly number[];
}

interface Runtime {
  InferenceSession: {
    create(
      bytes: Uint8Array,
      options: object,
    ): Promise<{ run(feeds: object): Promise<Record<string, OrtTensor>>; release(): Promise<void> }>;
  };
  Tensor: new (type: "float32", data: Float32Array, dims: number[]) => OrtTensor;
}

const place = resolve("bench/peers/package.json");
let runtime: Runtime | null = null;
try {
  runtime = createRequire(place)("onnxruntime-node");
} catch {
  // Its tests skip.
}
const skip = runtime === null && "onnxruntime-node is not installed in bench/peers";

const backend = await openBackend({ threads: 1 });
after(() => backend.dispose());

/** The network on our engine, for n images. */
function withPlan<T>(
  file: ModelFile,
  n: number,
  dynamic: boolean,
  use: (plan: Plan, net: Supernet, span: number) => T,
): T {
  const net = networkOf(file);
  const span = allocSpan(backend, net.layout.floats);
  readState(backend, net, span, selectTensors(file.tensors, "parameters"));
  const plan = new Plan(backend, net, span, { batch: n, dynamic });
  try {
    return use(plan, net, span);
  } finally {
    plan.dispose();
    backend.arena.free(span);
  }
}

/**
 * The model with norms measured on some of the images, and scores of the first gate whose means over all are 0: features that
 * depend on the image, and images that part ways.
 */
function balanced(file: ModelFile, images: Float32Array, n: number): ModelFile {
  return withPlan(file, n, true, (plan, net, span) => {
    const { height, width, channels } = net.spec.input;
    backend.f32.set(images, plan.input / 4);
    new Recalibration(backend, net, span, "paper").add(new Tensor(plan.input, 8, height, width, channels, false));
    plan.refresh();
    const means = (rows: Float32Array) =>
      Array.from({ length: rows.length / n }, (_, c, step = rows.length / n) => {
        return rows.reduce((sum, x, i) => (i % step === c ? sum + x / n : sum), 0);
      });
    const outputs = plan
      .gateScores(n)
      .map((score) => (net.gates[0]!.act === "sigmoid" ? Math.log(score / (1 - score)) : score));
    const [scores, features] = [means(outputs), means(plan.gateFeatures(n))];
    const { weight, bias } = net.gates[0]!.head;
    const tensors = writeState(backend, net, span);
    const values = asFloat32(tensors.get((bias ?? weight).name)!);
    const square = features.reduce((sum, f) => sum + f * f, 0);
    values.forEach((_, i) => {
      // Without a bias, the direction of the mean features is taken out of each score's weights.
      const [k, c] = [Math.floor(i / features.length), i % features.length];
      values[i]! -= bias !== null ? scores[i]! : (scores[k]! * features[c]!) / square;
    });
    return { ...file, routing: { by: "gate" as const, lambda: LAMBDA }, tensors };
  });
}

/** Small enough to leave the gate a choice, large enough to change some. */
const LAMBDA = 0.01;

/** Our logits and, if `dynamic`, routes. */
function ours(file: ModelFile, images: Float32Array, n: number, dynamic: boolean) {
  return withPlan(file, n, dynamic, (plan) => {
    backend.f32.set(images, plan.input / 4);
    const routes = dynamic ? plan.runRouted(n, routingOf(file)) : [];
    if (!dynamic) plan.run(n, 0);
    return { logits: backend.f32.slice(plan.logits / 4, plan.logits / 4 + n * file.classes.length), routes };
  });
}

/** The first model of this table, by seed, whose gate tells the images apart: now and then all its features are 0. */
function partingWays(spec: ModelSpec, images: Float32Array, n: number) {
  for (let seed = 0; seed < 10; seed++) {
    const model = balanced(fileOf(backend, spec, seed), images, n);
    const { logits, routes } = ours(model, images, n, true);
    const apart = new Set(routes.map(([first]) => first)).size > 1;
    if (apart || networkOf(model).gates[0]!.candidates.length === 1) return { model, logits, routes };
  }
  throw new Error(`${spec.description}: the images take one route`);
}

/** (N, H, W, C) → (N, C, H, W) */
function planes(images: Float32Array, { height, width, channels }: ModelSpec["input"]): Float32Array {
  const pixels = height * width;
  return images.map((_, at) => {
    const [n, rest] = [Math.floor(at / (pixels * channels)), at % (pixels * channels)];
    return images[(n * pixels + (rest % pixels)) * channels + Math.floor(rest / pixels)]!;
  });
}

/** Images of a mean colour each: noise alone looks all the same to a gate. */
function tinted(images: Float32Array, channels: number, n: number): Float32Array {
  const random = new Philox(0, "tints");
  const tints = Float32Array.from({ length: n * channels }, () => random.normal());
  const size = images.length / n;
  return images.map((x, at) => x + tints[Math.floor(at / size) * channels + (at % channels)]!);
}

async function session(file: ModelFile) {
  const bytes = Buffer.concat(encodeOnnx(onnxModel(file)));
  const options = { intraOpNumThreads: 1, logSeverityLevel: 3 };
  const opened = await runtime!.InferenceSession.create(bytes, options);
  const { input } = file.model.spec as ModelSpec;
  return {
    async run(images: Float32Array, n: number) {
      const dims = [n, input.channels, input.height, input.width];
      const feeds = { input: new runtime!.Tensor("float32", planes(images, input), dims) };
      const { logits, route } = await opened.run(feeds);
      return { logits: logits!.data as Float32Array, route: Array.from((route?.data ?? []) as BigInt64Array, Number) };
    },
    release: () => opened.release(),
  };
}

function assertClose(got: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(got.length, expected.length);
  const largest = expected.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
  assert.ok(largest > 0 && Number.isFinite(largest));
  const off = got.reduce((top, x, i) => Math.max(top, Math.abs(x - expected[i]!)), 0);
  assert.ok(off <= 1e-4 * largest, `${what}: off by ${off / largest} of the largest logit`);
}

/** onnxruntime gives our logits and routes, one image at a time. */
async function assertSame(model: ModelFile, images: Float32Array, logits: Float32Array, routes: number[][]) {
  const theirs = await session(model);
  const [size, classes] = [images, logits].map(({ length }) => length / routes.length) as [number, number];
  const got = new Float32Array(logits.length);
  for (const [i, route] of routes.entries()) {
    const answer = await theirs.run(images.subarray(i * size, (i + 1) * size), 1);
    assert.deepEqual(answer.route, route, `image ${i}`);
    got.set(answer.logits, i * classes);
  }
  assertClose(got, logits, "the images");
  await theirs.release();
}

const specs = [...listModels().map(modelSpec), ...smallSpecs, gateWithin];

describe("onnxruntime", { skip }, () => {
  for (const spec of specs) {
    it(`${spec.description}: the same logits at every width, one image and three`, async () => {
      const file = fileOf(backend, spec);
      const images = randomImages(spec, 3, 0);
      for (const slot of file.calibrated) {
        const slice = sliceModel(file, slot);
        const theirs = await session(slice);
        for (const n of [1, 3]) {
          const batch = images.subarray(0, (n * images.length) / 3);
          const { logits } = await theirs.run(batch, n);
          assertClose(logits, ours(slice, batch, n, false).logits, `width ${slot}, ${n} images`);
        }
        await theirs.release();
      }
    });

    it(`${spec.description}: the same routes and logits with the gate`, async () => {
      const n = 50;
      const images = tinted(randomImages(spec, n, 0), spec.input.channels, n);
      const { model, logits, routes } = partingWays(spec, images, n);
      await assertSame(model, images, logits, routes);
    });

    if (gateCount(spec) !== 1) continue;
    it(`${spec.description}: the same routes and logits with a cascade`, async () => {
      const n = 20;
      const images = tinted(randomImages(spec, n, 0), spec.input.channels, n);
      const file = fileOf(backend, spec);
      const { candidates } = networkOf(file).gates[0]!;
      const slim = ours(sliceModel(file, candidates[0]!), images, n, false).logits;
      const confidences = Array.from({ length: n }, (_, i) =>
        confidenceOf(slim.subarray(i * spec.classes, (i + 1) * spec.classes)),
      ).sort((a, b) => a - b);
      // In the widest gap: what rounds otherwise must not fall on its other side. Where there is none to speak of, all or none go on.
      const gap = (i: number) => confidences[i + 1]! / confidences[i]!;
      const [at] = Array.from({ length: n - 1 }, (_, i) => i).sort((a, b) => gap(b) - gap(a));
      const middle = (confidences[at!]! + confidences[at! + 1]!) / 2;
      for (const threshold of gap(at!) > 1.001 ? [middle] : [0, 1]) {
        const model: ModelFile = { ...file, routing: { by: "cascade", wider: candidates.at(-1)!, threshold } };
        const { logits, routes } = ours(model, images, n, true);
        const ends = new Set(routes.map(([width]) => width)).size;
        assert.equal(ends, threshold === middle && candidates.length > 1 ? 2 : 1);
        await assertSame(model, images, logits, routes);
      }
    });
  }
});
