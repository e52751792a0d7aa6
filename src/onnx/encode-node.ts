/** OnnxModel → the bytes of an .onnx file: protobuf messages, by the field numbers of the public format (onnx.proto). */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { OnnxModel } from "./export.js";
import type { Attribute, Constant, Graph, Node, Value } from "./graph.js";

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

/** Chunks of the file, in order. Weights are views, not copies: they may be gigabytes. */
export function encodeOnnx({ name, graph, inputs, metadata }: OnnxModel): Uint8Array[] {
  const constants = graph.file.constants.flatMap(constantChunks);
  const body = new BinaryWriter();
  writeGraph(body, graph, name);
  for (const input of inputs) message(body, FIELDS.graph.input, () => writeValue(body, input));
  const graphChunks = [body.finish(), ...constants];
  const head = new BinaryWriter();
  int(head, FIELDS.model.irVersion, IR_VERSION);
  text(head, FIELDS.model.producer, "dsnet");
  message(head, FIELDS.model.opset, () => int(head, FIELDS.opset.version, OPSET));
  for (const [key, value] of metadata) {
    message(head, FIELDS.model.metadata, () => {
      text(head, FIELDS.entry.key, key);
      text(head, FIELDS.entry.value, value);
    });
  }
  const bytes = graphChunks.reduce((sum, chunk) => sum + chunk.length, 0);
  head.tag(FIELDS.model.graph, WireType.LengthDelimited).uint32(bytes);
  return [head.finish(), ...graphChunks];
}

/** A field of a graph. */
function constantChunks({ name, dims, data }: Constant): Uint8Array[] {
  const tensor = new BinaryWriter();
  for (const dim of dims) int(tensor, FIELDS.tensor.dim, dim);
  int(tensor, FIELDS.tensor.element, data instanceof Float32Array ? ELEMENTS.float32 : ELEMENTS.int64);
  text(tensor, FIELDS.tensor.name, name);
  tensor.tag(FIELDS.tensor.bytes, WireType.LengthDelimited).uint32(data.byteLength);
  const fields = tensor.finish();
  const head = new BinaryWriter();
  head.tag(FIELDS.graph.constant, WireType.LengthDelimited).uint32(fields.length + data.byteLength);
  return [head.finish(), fields, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

function writeGraph(writer: BinaryWriter, { nodes, outputs }: Graph, name: string): void {
  for (const node of nodes) message(writer, FIELDS.graph.node, () => writeNode(writer, node));
  text(writer, FIELDS.graph.name, name);
  for (const output of outputs) message(writer, FIELDS.graph.output, () => writeValue(writer, output));
}

function writeNode(writer: BinaryWriter, { op, inputs, outputs, attributes }: Node): void {
  for (const input of inputs) text(writer, FIELDS.node.input, input);
  for (const output of outputs) text(writer, FIELDS.node.output, output);
  text(writer, FIELDS.node.name, outputs[0]!);
  text(writer, FIELDS.node.op, op);
  for (const [name, attribute] of Object.entries(attributes)) {
    message(writer, FIELDS.node.attribute, () => writeAttribute(writer, name, attribute));
  }
}

function writeAttribute(writer: BinaryWriter, name: string, attribute: Attribute): void {
  const fields = FIELDS.attribute;
  text(writer, fields.name, name);
  let type: keyof typeof ATTRIBUTES;
  if (typeof attribute === "number") {
    type = "int";
    int(writer, fields.int, attribute);
  } else if ("float" in attribute) {
    type = "float";
    writer.tag(fields.float, WireType.Bit32).float(attribute.float);
  } else if ("nodes" in attribute) {
    type = "graph";
    message(writer, fields.graph, () => writeGraph(writer, attribute, name));
  } else {
    type = "ints";
    for (const value of attribute) int(writer, fields.ints, value);
  }
  int(writer, fields.type, ATTRIBUTES[type]);
}

function writeValue(writer: BinaryWriter, { name, type, dims }: Value): void {
  text(writer, FIELDS.value.name, name);
  message(writer, FIELDS.value.type, () =>
    message(writer, FIELDS.type.tensor, () => {
      int(writer, FIELDS.tensorType.element, ELEMENTS[type]);
      message(writer, FIELDS.tensorType.shape, () => {
        for (const dim of dims) {
          message(writer, FIELDS.shape.dim, () => {
            if (typeof dim === "number") int(writer, FIELDS.dim.value, dim);
            else text(writer, FIELDS.dim.open, dim);
          });
        }
      });
    }),
  );
}

function message(writer: BinaryWriter, field: number, write: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write();
  writer.join();
}

function int(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}
