/** OnnxModel → the bytes of an .onnx file: protobuf messages, by the field numbers of the public format (onnx.proto). */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { OnnxModel } from "./export.js";
import { type Attribute, type Constant, Graph, type Node, type Value } from "./graph.js";

const IR_VERSION = 8;
const OPSET = 17;

/** Field numbers, by message. */
const FIELDS = {
  model: { irVersion: 1, producer: 2, graph: 7, opset: 8, metadata: 14 },
  opset: { version: 2 },
  entry: { key: 1, value: 2 },
  graph: { node: 1, name: 2, constant: 5, input: 11, output: 12 },
  node: { input: 1, output: 2, name: 3, op: 4, attribute: 5 },
  attribute: { name: 1, float: 2, int: 3, graph: 6, ints: 8, type: 20 },
  value: { name: 1, type: 2 },
  type: { tensor: 1 },
  tensorType: { element: 1, shape: 2 },
  shape: { dim: 1 },
  dim: { value: 1, open: 2 },
  tensor: { dim: 1, element: 2, name: 8, bytes: 9 },
} as const;

const ELEMENTS = { float32: 1, int64: 7 };
const ATTRIBUTES = { float: 1, int: 2, graph: 5, ints: 7 };

/** Pieces of a file, in order. Weights are views, not copies: they may be gigabytes. */
type Chunks = Uint8Array[];

export function encodeOnnx({ name, graph, inputs, metadata }: OnnxModel): Chunks {
  const fields = FIELDS.model;
  return [
    int(fields.irVersion, IR_VERSION),
    text(fields.producer, "dsnet"),
    ...message(fields.opset, [int(FIELDS.opset.version, OPSET)]),
    ...[...metadata].flatMap(([key, value]) =>
      message(fields.metadata, [text(FIELDS.entry.key, key), text(FIELDS.entry.value, value)]),
    ),
    ...message(fields.graph, [
      ...encodeGraph(graph, name),
      ...inputs.flatMap((input) => message(FIELDS.graph.input, encodeValue(input))),
    ]),
  ];
}

function encodeGraph({ nodes, constants, outputs }: Graph, name: string): Chunks {
  const fields = FIELDS.graph;
  return [
    ...nodes.flatMap((node) => message(fields.node, encodeNode(node))),
    text(fields.name, name),
    ...constants.flatMap((constant) => message(fields.constant, encodeConstant(constant))),
    ...outputs.flatMap((output) => message(fields.output, encodeValue(output))),
  ];
}

function encodeNode({ op, inputs, outputs, attributes }: Node): Chunks {
  const fields = FIELDS.node;
  return [
    ...inputs.map((input) => text(fields.input, input)),
    ...outputs.map((output) => text(fields.output, output)),
    text(fields.name, outputs[0]!),
    text(fields.op, op),
    ...Object.entries(attributes).flatMap(([name, value]) => message(fields.attribute, encodeAttribute(name, value))),
  ];
}

function encodeAttribute(name: string, value: Attribute): Chunks {
  const fields = FIELDS.attribute;
  const typed = (type: keyof typeof ATTRIBUTES, chunks: Chunks) => [
    text(fields.name, name),
    ...chunks,
    int(fields.type, ATTRIBUTES[type]),
  ];
  if (typeof value === "number") return typed("int", [int(fields.int, value)]);
  if (value instanceof Graph) return typed("graph", message(fields.graph, encodeGraph(value, name)));
  if ("float" in value) {
    return typed("float", [new BinaryWriter().tag(fields.float, WireType.Bit32).float(value.float).finish()]);
  }
  return typed(
    "ints",
    value.map((number) => int(fields.ints, number)),
  );
}

function encodeConstant({ name, dims, data }: Constant): Chunks {
  const fields = FIELDS.tensor;
  return [
    ...dims.map((dim) => int(fields.dim, dim)),
    int(fields.element, data instanceof Float32Array ? ELEMENTS.float32 : ELEMENTS.int64),
    text(fields.name, name),
    ...message(fields.bytes, [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]),
  ];
}

function encodeValue({ name, type, dims }: Value): Chunks {
  const shape = dims.flatMap((dim) =>
    message(FIELDS.shape.dim, [typeof dim === "number" ? int(FIELDS.dim.value, dim) : text(FIELDS.dim.open, dim)]),
  );
  const tensor = [int(FIELDS.tensorType.element, ELEMENTS[type]), ...message(FIELDS.tensorType.shape, shape)];
  return [text(FIELDS.value.name, name), ...message(FIELDS.value.type, message(FIELDS.type.tensor, tensor))];
}

/** A field of nested ones, or of bytes. */
function message(field: number, chunks: Chunks): Chunks {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  return [new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(bytes).finish(), ...chunks];
}

function int(field: number, value: number): Uint8Array {
  return new BinaryWriter().tag(field, WireType.Varint).int64(value).finish();
}

function text(field: number, value: string): Uint8Array {
  return new BinaryWriter().tag(field, WireType.LengthDelimited).string(value).finish();
}
