/**
 * tfjs on its WASM backend, which has one thread in Node: static | sliced. `sliced` keeps the widest weights and slices those
 * that slim at every call, as a width that is chosen at run time needs.
 */
import { readFileSync } from "node:fs";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { asFloat32 } from "../../dist/src/io/float32.js";
import { readSafetensors } from "../../dist/src/io/safetensors.js";
import { serve } from "./serve.mjs";

const sliced = process.argv[2] === "sliced";
console.log = console.error; // stdout carries answers
setWasmPaths(new URL("node_modules/@tensorflow/tfjs-backend-wasm/dist/", import.meta.url).pathname);
await tf.setBackend("wasm");

function readGraph(path) {
  const { metadata, tensors } = readSafetensors(readFileSync(path));
  return { nodes: JSON.parse(metadata.get("nodes")), tensors };
}

/** As tfjs wants it: convolutions (kh, kw, I, O), depthwise (kh, kw, C, 1), linear layers (I, O). */
function weight({ shape, ...stored }) {
  const tensor = tf.tensor(asFloat32({ shape, ...stored }), shape);
  if (shape.length < 2) return tensor;
  const depthwise = shape.length === 4 && shape[1] === 1;
  return tf.transpose(tensor, shape.length === 2 ? [1, 0] : depthwise ? [2, 3, 0, 1] : [2, 3, 1, 0]);
}

/** The graph as a list of calls, an activation fused into the convolution before it where tfjs can. */
function compile({ nodes }, constant) {
  const readers = new Map();
  for (const node of nodes) for (const input of node.inputs) readers.set(input, [...(readers.get(input) ?? []), node]);
  const skipped = new Set();
  const ops = {
    Conv: ({ inputs: [x, w, b], outputs: [y], attributes: { strides, pads, group } }) => {
      const [next, other] = readers.get(y);
      const fuses = other === undefined && (next.op === "Relu" || next.op === "Sigmoid");
      if (fuses) skipped.add(next);
      const run = group > 1 ? tf.fused.depthwiseConv2d : tf.fused.conv2d;
      const how = { strides, pad: pads[0], activation: fuses ? next.op.toLowerCase() : "linear" };
      return [fuses ? next.outputs[0] : y, (get) => run({ x: get(x), filter: constant(w), bias: constant(b), ...how })];
    },
    Gemm: ({ inputs: [x, w, b], outputs: [y] }) => [
      y,
      (get) => tf.fused.matMul({ a: get(x), b: constant(w), bias: constant(b) }),
    ],
    Sigmoid: ({ inputs: [x], outputs: [y] }) => [y, (get) => tf.sigmoid(get(x))],
    Relu: ({ inputs: [x], outputs: [y] }) => [y, (get) => tf.relu(get(x))],
    Mul: ({ inputs: [a, b], outputs: [y] }) => [y, (get) => tf.mul(get(a), get(b))],
    Add: ({ inputs: [a, b], outputs: [y] }) => [y, (get) => tf.add(get(a), get(b))],
    GlobalAveragePool: ({ inputs: [x], outputs: [y] }) => [y, (get) => tf.mean(get(x), [1, 2], true)],
    MaxPool: ({ inputs: [x], outputs: [y], attributes: { kernel_shape, strides, pads } }) => [
      y,
      (get) => tf.maxPool(get(x), kernel_shape, strides, pads[0]),
    ],
    Flatten: ({ inputs: [x], outputs: [y] }) => [y, (get) => tf.reshape(get(x), [get(x).shape[0], -1])],
    Identity: ({ inputs: [x], outputs: [y] }) => [y, (get) => get(x)],
  };
  const steps = [];
  for (const node of nodes) {
    if (skipped.has(node)) continue;
    if (!(node.op in ops)) throw new Error(`tfjs: ${node.op} is not written`);
    steps.push(ops[node.op](node));
  }
  return (input) => {
    const values = new Map([["input", input]]);
    for (const [name, run] of steps)
      values.set(
        name,
        run((x) => values.get(x)),
      );
    return values.get("logits");
  };
}

serve(async ({ graph, slims }, inputs, batch) => {
  const own = readGraph(graph);
  const held = sliced ? readGraph(slims.graph) : own;
  const weights = new Map([...held.tensors].map(([name, stored]) => [name, weight(stored)]));
  const shapes = new Map([...own.tensors].map(([name, stored]) => [name, tf.tidy(() => weight(stored).shape)]));
  const slimming = new Set(sliced ? slims.names : []);
  const constant = (name) => {
    const full = weights.get(name);
    return slimming.has(name)
      ? tf.slice(
          full,
          full.shape.map(() => 0),
          shapes.get(name),
        )
      : full;
  };
  const run = compile(own, constant);
  return (i) => tf.tidy(() => run(tf.tensor(inputs[i], [batch, 224, 224, 3])).dataSync());
});
