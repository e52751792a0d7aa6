/** A walk that writes ONNX nodes down. Activations are NCHW in there. */
import type { Exec } from "../nn/exec.js";
import { gateScores } from "../nn/gate.js";
import { type Conv, type Depthwise, NORM_EPS, type Norm } from "../nn/layers.js";
import { channelsAt, type Position } from "../nn/width.js";
import type { Activation } from "../ops/activation.js";
import { outputSize } from "../ops/conv.js";
import { GROUP_CHANNELS } from "../ops/norm.js";
import { type PoolWindow, pooledSize } from "../ops/pool.js";
import type { Attribute, Graph } from "./graph.js";
import type { Weights } from "./weights.js";

/** A value of the graph by name, and one image's size in it. */
export interface Activations {
  readonly name: string;
  readonly c: number;
  readonly h: number;
  readonly w: number;
}

export class OnnxExec implements Exec<Activations> {
  /** The scores of the gate that ends this segment. */
  scores: Activations | null = null;

  constructor(
    readonly graph: Graph,
    readonly weights: Weights,
  ) {}

  conv(x: Activations, conv: Conv, norm: Norm | null, act: Activation, at: Position): Activations {
    const cout = channelsAt(conv.cout, at.slot);
    return this.#convolve(x, conv, norm, act, cout, this.weights.conv(conv, norm, at, cout, x.c), 1);
  }

  depthwise(x: Activations, conv: Depthwise, norm: Norm, act: Activation, at: Position): Activations {
    return this.#convolve(x, conv, norm, act, x.c, this.weights.conv(conv, norm, at, x.c, 1), x.c);
  }

  #convolve(
    x: Activations,
    conv: Conv | Depthwise,
    norm: Norm | null,
    act: Activation,
    c: number,
    weights: readonly string[],
    group: number,
  ): Activations {
    const { kernel, stride, pad } = conv;
    const size = { h: outputSize(x.h, kernel, stride, pad), w: outputSize(x.w, kernel, stride, pad) };
    let name: string;
    if (conv.weight.fileShape.length === 2) {
      const rows = this.graph.node("Flatten", `${conv.name}.rows`, [x.name], { axis: 1 });
      name = this.graph.node("Gemm", conv.name, [rows, ...weights], { transB: 1 });
    } else {
      const window = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] };
      name = this.graph.node("Conv", conv.name, [x.name, ...weights], { ...window, group });
    }
    const y = { name, c, ...size };
    const normed = norm?.kind === "gn" ? this.#groupNorm(y, norm) : name;
    return { ...y, name: this.#activate(normed, act) };
  }

  #activate(x: string, act: Activation): string {
    if (act === "none") return x;
    if (act === "relu") return this.graph.node("Relu", `${x}.relu`, [x]);
    const sigmoid = this.graph.node("Sigmoid", `${x}.sigmoid`, [x]);
    return act === "sigmoid" ? sigmoid : this.graph.node("Mul", `${x}.swish`, [x, sigmoid]);
  }

  /** A group is a channel of an instance norm, once its pixels lie in one row. A smaller last group goes apart. */
  #groupNorm(x: Activations, norm: Norm): string {
    const { graph } = this;
    const rest = x.c % GROUP_CHANNELS;
    const parts = [x.c - rest, rest].filter((c) => c > 0);
    const split = parts.length > 1 ? this.#split(x.name, parts) : [x.name];
    const normed = parts.map((c, i) => {
      const groups = Math.ceil(c / GROUP_CHANNELS);
      const rows = graph.node("Reshape", `${norm.name}.rows`, [split[i]!, graph.integers("shape", [0, groups, -1])]);
      const one = graph.constant("ones", [groups], new Float32Array(groups).fill(1));
      const zero = graph.constant("zeros", [groups], new Float32Array(groups));
      const epsilon = { float: NORM_EPS };
      const y = graph.node("InstanceNormalization", `${norm.name}.groups`, [rows, one, zero], { epsilon });
      return graph.node("Reshape", `${norm.name}.pixels`, [y, graph.integers("shape", [0, c, x.h, x.w])]);
    });
    const whole = parts.length > 1 ? graph.node("Concat", `${norm.name}.whole`, normed, { axis: 1 }) : normed[0]!;
    const [gamma, beta] = this.weights.groupNorm(norm, x.c) as [string, string];
    const scaled = graph.node("Mul", `${norm.name}.scaled`, [whole, gamma]);
    return graph.node("Add", norm.name, [scaled, beta]);
  }

  #split(x: string, channels: readonly number[]): string[] {
    const outputs = channels.map((_, i) => this.graph.unique(`${x}.part${i}`));
    const inputs = [x, this.graph.integers("channels", channels)];
    this.graph.nodes.push({ op: "Split", inputs, outputs, attributes: { axis: 1 } });
    return outputs;
  }

  /** Pads as far as the last window reaches: what `ceil_mode` means is not the same to all who read ONNX. */
  pool(x: Activations, window: PoolWindow): Activations {
    const { kind, kernel, stride, pad } = window;
    const [h, w] = [pooledSize(x.h, window), pooledSize(x.w, window)];
    const end = (size: number, pooled: number) => Math.max((pooled - 1) * stride + kernel - pad - size, 0);
    const attributes: Record<string, Attribute> = {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [pad, pad, end(x.h, h), end(x.w, w)],
    };
    if (kind === "average") attributes.count_include_pad = 0;
    const op = kind === "max" ? "MaxPool" : "AveragePool";
    return { name: this.graph.node(op, `${x.name}.pool`, [x.name], attributes), c: x.c, h, w };
  }

  globalPool(x: Activations): Activations {
    return { name: this.graph.node("GlobalAveragePool", `${x.name}.mean`, [x.name]), c: x.c, h: 1, w: 1 };
  }

  scale(x: Activations, factor: Activations): Activations {
    return { ...x, name: this.graph.node("Mul", `${x.name}.attended`, [x.name, factor.name]) };
  }

  add(a: Activations, b: Activations, act: Activation): Activations {
    const c = Math.max(a.c, b.c);
    const inputs = [a, b].map((x) => this.#widened(x, c));
    return { ...a, name: this.#activate(this.graph.node("Add", `${a.name}.sum`, inputs), act), c };
  }

  /** x with channels of zeros up to c. */
  #widened(x: Activations, c: number): string {
    if (x.c === c) return x.name;
    const pads = this.graph.integers("pads", [0, 0, 0, 0, 0, c - x.c, 0, 0]);
    return this.graph.node("Pad", `${x.name}.widened`, [x.name, pads]);
  }

  gate: Exec<Activations>["gate"] = (gate, reduced, at) => {
    this.scores = gateScores(this, gate, reduced(), at);
    return at.slot;
  };

  features(x: Activations): Activations {
    return x;
  }
}
