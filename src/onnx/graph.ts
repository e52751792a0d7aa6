/** An ONNX graph while it is written down: nodes, weights, names. Knows no layer and no width; encode-node.ts makes bytes of it. */
import { UsageError } from "../errors.js";

/** A whole number, a list of them, a graph, or a float. */
export type Attribute = number | readonly number[] | Graph | { readonly float: number };

export interface Node {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A constant of the file: float32 or int64 by its data. */
export interface Constant {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** An input or output. A dimension that is a string is open. */
export interface Value {
  readonly name: string;
  readonly type: "float32" | "int64";
  readonly dims: readonly (number | string)[];
}

/** What all graphs of a file share: names, and the bytes of constants, of which one protobuf message can hold so many. */
export interface File {
  readonly names: Set<string>;
  readonly limit: number;
  bytes: number;
}

/** 2 GB less a share for the nodes. */
const MOST_BYTES = 2 ** 31 - 2 ** 24;

export function newFile(limit = MOST_BYTES): File {
  return { names: new Set(), limit, bytes: 0 };
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly constants: Constant[] = [];
  outputs: readonly Value[] = [];

  constructor(readonly file: File) {}

  /** A name that nothing else in the file has. */
  unique(name: string): string {
    let free = name;
    for (let i = 1; this.file.names.has(free); i++) free = `${name}.${i}`;
    this.file.names.add(free);
    return free;
  }

  /** Adds a node with one output; returns the output's name, made from `name`. */
  node(op: string, name: string, inputs: readonly string[], attributes: Node["attributes"] = {}): string {
    const output = this.unique(name);
    this.nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  }

  /** A constant of this graph, which those below it see too. UsageError where the file cannot hold it. */
  constant(name: string, dims: readonly number[], data: Float32Array | BigInt64Array): string {
    this.file.bytes += data.byteLength;
    if (this.file.bytes > this.file.limit) {
      throw new UsageError(
        `the weights of all routes are more than an ONNX file can hold (${this.file.limit} bytes), each has its own copy: ` +
          "export one at a time, with --width",
      );
    }
    const free = this.unique(name);
    this.constants.push({ name: free, dims, data });
    return free;
  }

  integers(name: string, values: readonly number[]): string {
    return this.constant(name, [values.length], BigInt64Array.from(values, BigInt));
  }

  /**
   * What `write` makes of way `index` (an int64 of one element), 0 to `ways` − 1: its outputs, as they are called here.
   * `If` is all that ONNX has to choose with: a tree of them, log2(ways) deep. The ways agree in number,
   * types and ranks; a dimension that is not the same in all is open.
   */
  choose(index: string, ways: number, write: (way: number, graph: Graph) => Value[], first = 0): Value[] {
    if (ways === 1) return write(first, this);
    const half = ways >> 1;
    const isLower = this.node("Less", `${index}.below`, [index, this.integers("bound", [first + half])]);
    const branch = (from: number, count: number) => {
      const graph = new Graph(this.file);
      graph.outputs = graph.choose(index, count, write, from);
      return graph;
    };
    const lower = branch(first, half);
    const upper = branch(first + half, ways - half);
    const outputs = lower.outputs.map(({ name, type, dims }, i) => {
      const chosen = this.unique(`${name}.chosen`);
      const others = upper.outputs[i]!.dims;
      return { name: chosen, type, dims: dims.map((dim, d) => (dim === others[d] ? dim : `${chosen}.${d}`)) };
    });
    this.nodes.push({
      op: "If",
      inputs: [isLower],
      outputs: outputs.map(({ name }) => name),
      attributes: { then_branch: lower, else_branch: upper },
    });
    return outputs;
  }
}
