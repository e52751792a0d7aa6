/** An .onnx file read back: what every reader of the format relies on. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import type { ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import { sliceModel } from "../../src/models/slice.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { encodeOnnx } from "../../src/onnx/encode-node.js";
import { onnxModel } from "../../src/onnx/export.js";
import { Graph, newFile } from "../../src/onnx/graph.js";
import { temporaryFolder } from "../data/support.js";
import { gateWithin, smallSpecs } from "../support/networks.js";
import { pythonWith } from "../support/python.js";
import { fileOf } from "../support/slices.js";
import { type DecodedGraph, decodeOnnx } from "./decode.js";

const backend = await openBackend({ device: "wasm", threads: 1 });
after(() => backend.dispose());
const modelOf = (spec: ModelSpec) => fileOf(backend, spec, 1);
const bytesOf = (file: ModelFile) => Buffer.concat(encodeOnnx(onnxModel(file)));

/** Throws unless every value exists before it is read, and no name is given twice. Returns the ops, from all graphs. */
function checkGraph(graph: DecodedGraph, outer: readonly string[] = [], given = new Set<string>()): string[] {
  const give = (name: string) => {
    assert.ok(!given.has(name), `${name} is given twice`);
    given.add(name);
    known.add(name);
  };
  const known = new Set(outer);
  const read = new Set<string>();
  for (const { name } of [...graph.inputs, ...graph.constants]) give(name);
  const ops: string[] = [];
  for (const { op, inputs, outputs, graphs } of graph.nodes) {
    for (const input of inputs) assert.ok(known.has(input), `${op} reads ${input}, which is not there yet`);
    for (const below of graphs.values()) ops.push(...checkGraph(below, [...known], given));
    outputs.forEach(give);
    ops.push(op);
    for (const input of inputs) read.add(input);
  }
  const local = new Set(graph.nodes.flatMap(({ outputs }) => outputs));
  for (const { name } of graph.outputs) assert.ok(local.has(name), `output ${name} is not of this graph`);
  return ops;
}

const count = (list: readonly string[], op: string) => list.filter((other) => other === op).length;

describe("an ONNX file", () => {
  for (const spec of [...smallSpecs, gateWithin]) {
    const file = modelOf(spec);
    const { height, width, channels } = spec.input;

    it(`${spec.description}: one width`, () => {
      for (const slot of file.calibrated) {
        const slice = sliceModel(file, slot);
        const net = build(slice.model.spec as ModelSpec);
        const { irVersion, opset, graph } = decodeOnnx(bytesOf(slice));
        assert.deepEqual([irVersion, opset], [8, 17]);
        assert.deepEqual(graph.inputs, [{ name: "input", element: 1, dims: ["batch", channels, height, width] }]);
        assert.deepEqual(graph.outputs, [{ name: "logits", element: 1, dims: ["batch", spec.classes] }]);
        const ops = checkGraph(graph);
        const weights = net.layout.params.filter(({ kind }) => kind !== "vector");
        assert.equal(count(ops, "Conv") + count(ops, "Gemm"), weights.length);
        for (const { name, fileShape } of weights) {
          assert.deepEqual(graph.constants.find((constant) => constant.name === name)?.dims, fileShape);
        }
        for (const { name, dims, element, bytes } of graph.constants) {
          const size = dims.reduce((a, b) => a * b, element === 1 ? 4 : 8);
          assert.equal(bytes.length, size, name);
        }
      }
    });

    it(`${spec.description}: all widths`, () => {
      const { graph } = decodeOnnx(bytesOf(file));
      const net = build(spec);
      const gates = net.gates.length;
      const ops = checkGraph(graph);
      // A tree of choices for each gate; behind the first, at least one for each pair of widths.
      const least = net.gates.reduce((sum, { candidates }, g) => sum + candidates.length ** (g === 0 ? 1 : 2) - 1, 0);
      assert.ok(gates > 1 ? count(ops, "If") >= least : count(ops, "If") === least);
      assert.equal(count(ops, "ArgMax"), gates);
      assert.deepEqual(graph.inputs, [{ name: "input", element: 1, dims: [1, channels, height, width] }]);
      assert.deepEqual(graph.outputs, [
        { name: "logits", element: 1, dims: [1, spec.classes] },
        { name: "route", element: 7, dims: [gates] },
      ]);
    });
  }

  it("tells labels and preprocessing", () => {
    const file = modelOf(smallSpecs[0]!);
    const { mean, std, interpolation } = file.preprocessing;
    const { metadata } = decodeOnnx(bytesOf(file));
    assert.deepEqual(Object.fromEntries(metadata), {
      model: "sample",
      labels: JSON.stringify(file.classes),
      input_size: "[3,16,16]",
      mean: JSON.stringify(mean),
      std: JSON.stringify(std),
      interpolation,
      crop_pct: "1",
      widths: "[0,1,2,3]",
    });
  });

  const python = pythonWith("onnx");
  it("passes ONNX's own checker, types and shapes too", {
    skip: python === null && "no python3 with onnx here",
  }, () => {
    const folder = temporaryFolder();
    const paths = [...smallSpecs, gateWithin].flatMap((spec, i) => {
      const file = modelOf(spec);
      return [file, ...file.calibrated.map((slot) => sliceModel(file, slot))].map((model, j) => {
        const path = join(folder, `${i}-${j}.onnx`);
        writeFileSync(path, bytesOf(model));
        return path;
      });
    });
    const script = "import onnx, sys\nfor path in sys.argv[1:]: onnx.checker.check_model(path, full_check=True)";
    execFileSync(python!, ["-c", script, ...paths]);
  });
});

describe("ONNX refuses", () => {
  it("several widths without a trained gate", () => {
    assert.throws(() => onnxModel({ ...modelOf(smallSpecs[0]!), candidates: [] }), {
      code: "ERR_USAGE",
      message: "this sample has 4 widths and no trained gate to choose: give one with --width",
    });
  });

  it("a gate that may choose a width never measured", () => {
    assert.throws(() => onnxModel({ ...modelOf(smallSpecs[0]!), calibrated: [0, 1, 3] }), {
      code: "ERR_UNCALIBRATED",
      message: /^width 2 has no measured/,
    });
  });

  it("tensors that are not the network's", () => {
    const file = modelOf(smallSpecs[0]!);
    file.tensors.delete("conv_stem.weight");
    assert.throws(() => onnxModel(file), { code: "ERR_FORMAT", message: /conv_stem\.weight/ });
  });

  it("more weights than a file can hold", () => {
    const graph = new Graph(newFile(1000));
    graph.constant("a", [240], new Float32Array(240));
    assert.throws(() => graph.constant("b", [240], new Float32Array(240)), {
      code: "ERR_USAGE",
      message: /can hold \(1000 bytes\).*--width/,
    });
  });
});
