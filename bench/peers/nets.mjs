/** The networks that are measured, with random weights, as files for every runtime. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackend } from "../../dist/src/backend/open.js";
import { madds } from "../../dist/src/cost/madds.js";
import { Plan } from "../../dist/src/engine/plan.js";
import { encodeModel } from "../../dist/src/io/model-file.js";
import { writeSafetensors } from "../../dist/src/io/safetensors.js";
import { build } from "../../dist/src/models/build.js";
import { modelSpec } from "../../dist/src/models/registry.js";
import { sliceModel } from "../../dist/src/models/slice.js";
import { allocSpan, initState, part, writeState } from "../../dist/src/models/state.js";
import { encodeOnnx } from "../../dist/src/onnx/encode-node.js";
import { onnxModel } from "../../dist/src/onnx/export.js";
import { Tensor } from "../../dist/src/ops/tensor.js";
import { Philox } from "../../dist/src/random/philox.js";
import { Recalibration } from "../../dist/src/train/recalibrate.js";

export const IMAGES = 8;

const common = {
  description: "for comparison",
  input: { height: 224, width: 224, channels: 3 },
  act: "relu",
  norm: "bn",
  attention: 0,
  residual: false,
  classes: 1000,
  candidates: null,
};
const separable = (repeat, stride, width) => ({ block: "separable", repeat, kernel: 3, stride, widths: [width] });
const bottleneck = (repeat, stride, width) => ({ block: "bottleneck", repeat, kernel: 3, stride, widths: [width] });

/** `madds`: of the published network; a table that this dsnet cannot build gives others. */
const STATIC = {
  "MobileNetV1 1.0": {
    madds: 569e6,
    spec: {
      ...common,
      stem: { kernel: 3, stride: 2, widths: [32] },
      stages: [
        separable(1, 1, 64),
        separable(2, 2, 128),
        separable(2, 2, 256),
        separable(6, 2, 512),
        separable(2, 2, 1024),
      ],
    },
  },
  "ResNet-50": {
    madds: 4089e6,
    spec: {
      ...common,
      residual: true,
      stem: { kernel: 7, stride: 2, widths: [64], pool: true },
      stages: [bottleneck(3, 1, 256), bottleneck(4, 2, 512), bottleneck(6, 2, 1024), bottleneck(3, 2, 2048)],
    },
  },
};

/** The gate's head gets a bias, by which it can be made to send the images different ways. */
const SUPERNET = { ...modelSpec("ds_mbnet"), gate: { hidden: 0, bias: true } };

/** Normal noise on a mean colour each, (IMAGES, 224, 224, 3): a gate sends them different ways. */
function makeImages() {
  const random = new Philox(0, "peers");
  const size = 224 * 224 * 3;
  const tints = Float32Array.from({ length: IMAGES * 3 }, () => random.normal());
  return Float32Array.from(
    { length: IMAGES * size },
    (_, i) => random.normal() + tints[Math.floor(i / size) * 3 + (i % 3)],
  );
}

/**
 * A model file's content. Norms are measured on the images at every width; behind the gate all widths then share the widest's
 * statistics, so that a narrower layer, norm folded in, is a prefix of the wider one: the most favourable case for peers that slice.
 */
function randomModel(backend, name, spec, images) {
  const net = build(spec);
  const { height, width, channels } = spec.input;
  const span = allocSpan(backend, net.layout.floats);
  initState(backend, net, span, 0);
  for (const norm of net.lastNorms) part(backend, span, norm.weight).fill(0.5);
  const plan = new Plan(backend, net, span, { batch: IMAGES });
  backend.f32.set(images, plan.input / 4);
  new Recalibration(backend, net, span, "paper").add(new Tensor(plan.input, IMAGES, height, width, channels, false));
  for (const { stats } of net.norms.filter(({ widths }) => net.widths > 1 && widths.length === net.widths)) {
    for (const { mean, var: variance } of stats) {
      const widest = stats[stats.length - 1];
      part(backend, span, mean).set(part(backend, span, widest.mean).subarray(0, mean.size));
      part(backend, span, variance).set(part(backend, span, widest.var).subarray(0, variance.size));
    }
  }
  plan.refresh();
  for (const { head, candidates } of net.gates) {
    const scores = plan.gateScores(IMAGES);
    const bias = part(backend, span, head.bias);
    scores.forEach((score, i) => {
      bias[i % candidates.length] -= score / IMAGES;
    });
  }
  backend.f32.set(images, plan.input / 4);
  const routes = net.gates.length > 0 ? plan.runDynamic(IMAGES) : [];
  plan.dispose();
  const file = {
    model: { name, spec },
    classes: Array.from({ length: spec.classes }, (_, c) => `class ${c}`),
    preprocessing: { height, width, channels, mean: [0, 0, 0], std: [1, 1, 1], interpolation: "bilinear", cropPct: 1 },
    candidates: net.gates[0]?.candidates ?? [],
    calibrated: Array.from({ length: net.widths }, (_, k) => k),
    tensors: writeState(backend, net, span),
  };
  backend.arena.free(span);
  return { file, net, routes };
}

/**
 * Writes every network's files into `folder`.
 * - `model`: dsnet's, to be run at `width`; `onnx`: the same weights; `graph`: the ONNX file's nodes and weights as safetensors, for
 *   those who build the network themselves (null: dynamic)
 * - `slims`, of a supernet's widths: `graph` of the widest, and which of its weights are sliced for a narrower one
 */
export async function writeNets(folder) {
  const backend = await openBackend();
  const images = makeImages();
  writeFileSync(join(folder, "images.f32"), images);
  const pathOf = (name, ending) => join(folder, `${name.replaceAll(/[ .]/g, "-")}.${ending}`);

  const write = (file, name) => {
    const { graph, ...rest } = onnxModel(file);
    const onnx = pathOf(name, "onnx");
    writeFileSync(onnx, Buffer.concat(encodeOnnx({ graph, ...rest })));
    if (graph.outputs.length > 1) return { onnx, graph: null };
    const path = pathOf(name, "graph");
    const tensors = graph.constants.map(({ name, dims, data }) => [
      name,
      { dtype: data instanceof Float32Array ? "F32" : "I64", shape: dims, data: new Uint8Array(data.buffer) },
    ]);
    writeFileSync(path, writeSafetensors(new Map(tensors), new Map([["nodes", JSON.stringify(graph.nodes)]])));
    return { onnx, graph: path };
  };

  const nets = [];
  const { file, net, routes } = randomModel(backend, "ds_mbnet", SUPERNET, images);
  const model = pathOf("ds_mbnet", "safetensors");
  writeFileSync(model, encodeModel(file));
  const [narrowest, widest] = [0, net.widths - 1].map((width) => sliceModel(file, width));
  const dims = new Map(onnxModel(narrowest).graph.constants.map(({ name, dims }) => [name, String(dims)]));
  const slims = {
    graph: write(widest, "ds_mbnet widest").graph,
    names: onnxModel(widest).graph.constants.flatMap(({ name, dims: wide }) =>
      dims.get(name) === String(wide) ? [] : [name],
    ),
  };
  for (const width of [0, 7, 13]) {
    const name = `ds_mbnet width ${width}`;
    const files = write(sliceModel(file, width), name);
    nets.push({ name, madds: madds(net, width), routes: null, model, width, slims, ...files });
  }
  const mean = routes.reduce((sum, route) => sum + madds(net, route, true), 0) / routes.length;
  const dynamic = { name: "ds_mbnet dynamic", madds: mean, routes, model, width: "dynamic", slims: null };
  nets.push({ ...dynamic, ...write(file, dynamic.name) });

  for (const [name, { spec, madds: published }] of Object.entries(STATIC)) {
    const cost = madds(build(spec), 0);
    if (Math.abs(cost / published - 1) > 0.01) {
      console.error(`${name}: left out, this dsnet has no such block`);
      continue;
    }
    const { file } = randomModel(backend, name, spec, images);
    const model = pathOf(name, "safetensors");
    writeFileSync(model, encodeModel(file));
    nets.push({ name, madds: cost, routes: null, model, width: 0, slims: null, ...write(file, name) });
  }
  backend.dispose();
  return nets;
}
