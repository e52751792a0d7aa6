/** Reads an .onnx file back, by field numbers of its own: it shares nothing with the writer but protobuf. */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

export interface DecodedNode {
  op: string;
  inputs: string[];
  outputs: string[];
  /** Graphs below it, by the attribute's name. */
  graphs: Map<string, DecodedGraph>;
}

export interface DecodedGraph {
  nodes: DecodedNode[];
  constants: { name: string; dims: number[]; element: number; bytes: Uint8Array }[];
  inputs: DecodedValue[];
  outputs: DecodedValue[];
}

export interface DecodedValue {
  name: string;
  element: number;
  dims: (number | string)[];
}

export interface DecodedModel {
  irVersion: number;
  opset: number;
  metadata: Map<string, string>;
  graph: DecodedGraph;
}

type Field = number | Uint8Array;

/** A message's fields by number. */
function fields(bytes: Uint8Array): (number: number) => Field[] {
  const found = new Map<number, Field[]>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    let field: Field;
    if (type === WireType.Varint) field = Number(reader.int64());
    else if (type === WireType.Bit32) field = reader.float();
    else field = reader.bytes();
    found.set(number, [...(found.get(number) ?? []), field]);
  }
  return (number) => found.get(number) ?? [];
}

const messages = (list: Field[]) => list.map((bytes) => fields(bytes as Uint8Array));
const text = (bytes: Field | undefined) => new TextDecoder().decode(bytes as Uint8Array);

export function decodeOnnx(bytes: Uint8Array): DecodedModel {
  const model = fields(bytes);
  const metadata = messages(model(14)).map((entry): [string, string] => [text(entry(1)[0]), text(entry(2)[0])]);
  return {
    irVersion: model(1)[0] as number,
    opset: messages(model(8))[0]!(2)[0] as number,
    metadata: new Map(metadata),
    graph: graphOf(model(7)[0] as Uint8Array),
  };
}

function graphOf(bytes: Uint8Array): DecodedGraph {
  const graph = fields(bytes);
  return {
    nodes: messages(graph(1)).map((node) => ({
      op: text(node(4)[0]),
      inputs: node(1).map(text),
      outputs: node(2).map(text),
      graphs: new Map(
        messages(node(5))
          .filter((attribute) => attribute(20)[0] === 5)
          .map((attribute) => [text(attribute(1)[0]), graphOf(attribute(6)[0] as Uint8Array)]),
      ),
    })),
    constants: messages(graph(5)).map((tensor) => ({
      name: text(tensor(8)[0]),
      dims: tensor(1) as number[],
      element: tensor(2)[0] as number,
      bytes: tensor(9)[0] as Uint8Array,
    })),
    inputs: messages(graph(11)).map(describeValue),
    outputs: messages(graph(12)).map(describeValue),
  };
}

function describeValue(value: ReturnType<typeof fields>): DecodedValue {
  const type = messages(messages(value(2))[0]!(1))[0]!;
  return {
    name: text(value(1)[0]),
    element: type(1)[0] as number,
    dims: messages(messages(type(2))[0]!(1)).map((dim) => (dim(1)[0] as number | undefined) ?? text(dim(2)[0])),
  };
}
