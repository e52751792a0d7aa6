/** Single layers, forward and backward: our ops on the reference's inputs. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { Param } from "../../src/nn/parameters.js";
import { affine } from "../../src/ops/affine.js";
import { type ConvWeight, conv, samePadding } from "../../src/ops/conv.js";
import { type DepthwiseWeight, depthwise } from "../../src/ops/depthwise.js";
import { crossEntropy, type Target } from "../../src/ops/loss.js";
import { normFactors, straightThrough } from "../../src/ops/mix.js";
import { batchNorm } from "../../src/ops/norm.js";
import { globalPool, pool } from "../../src/ops/pool.js";
import { Tape } from "../../src/ops/tape.js";
import { Tensor } from "../../src/ops/tensor.js";
import {
  Comparison,
  parityBackends,
  readValues,
  tolerancesOf,
  toNCHW,
  toNHWC,
  type Values,
} from "../support/parity.js";
import { floatsAt } from "../support/parity-networks.js";

const all = await parityBackends();

const EPS = 1e-5;
const tolerances = tolerancesOf("ops", "ops");
const values = readValues("ops/ops.safetensors");
const value = (name: string) => values.get(name)!;

/** A parameter in the arena with its gradient, both in the span's layout. */
interface Placed {
  param: Param;
  w: number;
  dw: number;
}

/** One layer on a tape: places inputs, seeds the output's gradient with the probe, and compares what comes back. */
class Layer {
  readonly tape: Tape;

  constructor(
    readonly backend: Backend,
    readonly name: string,
    readonly comparison: Comparison,
  ) {
    this.tape = new Tape(backend);
  }

  /** The first `c` channels of an input: (N, C, H, W), or (N, C) as one pixel. */
  input(from: Values, c = from.shape[1]!): Tensor {
    const [n, channels, h = 1, w = 1] = from.shape as [number, number, number?, number?];
    const t = this.tape.tensor(n, h, w, c);
    const { f32 } = this.backend;
    toNHWC({ shape: [n, channels, h, w], data: from.data }).forEach((v, i) => {
      if (i % channels < c) f32[t.at / 4 + Math.floor(i / channels) * c + (i % channels)] = v;
    });
    return t;
  }

  param(name: string, kind: Param["kind"]): Placed {
    const { shape, data } = value(name);
    const full = kind === "conv" ? [...shape, 1, 1].slice(0, 4) : shape;
    const param = new Param(name, kind, full, "plain");
    const { arena } = this.backend;
    const w = arena.alloc(param.floats * 4);
    const dw = arena.alloc(param.floats * 4);
    this.backend.f32.fill(0, dw / 4, dw / 4 + param.floats);
    param.pack(data, this.backend.f32.subarray(w / 4, w / 4 + param.floats));
    return { param, w, dw };
  }

  vector(data: ArrayLike<number>): number {
    const at = this.backend.arena.alloc(data.length * 4);
    this.backend.f32.set(data, at / 4);
    return at;
  }

  convWeight({ param, w, dw }: Placed, bias: Placed | null, stride = 1): ConvWeight {
    const [coutMax, cinMax, kernel, kw] = param.shape as [number, number, number, number];
    const taps = kernel * kw;
    const wt = this.backend.arena.alloc(Math.ceil(cinMax / 16) * 16 * taps * coutMax * 4);
    this.backend.call({ op: "transpose", w, wt, taps, cin_max: cinMax, cout_max: coutMax });
    const at = { w, dw, wt, bias: bias?.w ?? 0, dbias: bias?.dw ?? 0 };
    return { ...at, cinMax, coutMax, kernel, stride, pad: samePadding(kernel, stride) };
  }

  depthwiseWeight({ param, w, dw }: Placed, stride: number): DepthwiseWeight {
    const [cMax, , kernel] = param.shape as [number, number, number];
    return { w, dw, cMax, kernel, stride, pad: samePadding(kernel, stride) };
  }

  read(t: { at: number; n: number; c: number; size: number }): Float64Array {
    return toNCHW(floatsAt(this.backend, t.at, t.size), t.n, t.c);
  }

  near(result: string, got: ArrayLike<number>): void {
    this.comparison.near(`${this.name}.${result}`, got, value(`${this.name}.${result}`).data);
  }

  /** Compares the output and, with the probe for its gradient, the gradients. */
  check(out: Tensor, gradients: Record<string, Tensor | Placed>): void {
    this.near("out", this.read(out));
    this.backward(out);
    for (const [name, of] of Object.entries(gradients)) {
      if (of instanceof Tensor) this.near(`grad.${name}`, this.read(of.grad!));
      else this.near(`grad.${name}`, of.param.unpack(floatsAt(this.backend, of.dw, of.param.floats)));
    }
  }

  backward(out: Tensor): void {
    out.grad = this.input(value(`${this.name}.probe`));
    this.tape.backward();
  }
}

/** Layers by the beginning of their names; the numbers behind say how much of input and weight is used. */
const layers: Record<string, (l: Layer, numbers: number[]) => void> = {
  "pointwise.": (l, [cin, cout]) => {
    const x = l.input(value("x"), cin);
    const weight = l.param("pointwise.weight", "conv");
    const bias = l.param("pointwise.bias", "vector");
    l.check(conv(l.tape, x, l.convWeight(weight, bias), cout!), { x, weight, bias });
  },
  "conv3.": (l, [cout, stride]) => {
    const x = l.input(value("x"));
    const weight = l.param("stem.weight", "conv");
    l.check(conv(l.tape, x, l.convWeight(weight, null, stride), cout!), { x, weight });
  },
  "depthwise3.": (l, [c, stride]) => depthwiseLayer(l, "depthwise3.weight", c!, stride!),
  "depthwise5.": (l, [c, stride]) => depthwiseLayer(l, "depthwise5.weight", c!, stride!),
  "linear.": (l, [cin]) => {
    const pooled = globalPool(new Tape(l.backend, false), l.input(value("x"), cin));
    const mean = new Tensor(pooled.at, pooled.n, 1, 1, pooled.c, true); // an input: its gradient stays
    const weight = l.param("linear.weight", "conv");
    const bias = l.param("linear.bias", "vector");
    l.check(conv(l.tape, mean, l.convWeight(weight, bias), 5), { x: mean, weight, bias });
  },
  swish: (l) => {
    const x = l.input(value("x"));
    l.check(affine(l.tape, x, null, null, "swish"), { x });
  },
  avgpool2_ceil: (l) => {
    const x = l.input(value("x"));
    l.check(pool(l.tape, x, { kind: "average", kernel: 2, stride: 2, pad: 0, ceil: true }), { x });
  },
  globalpool: (l) => {
    const x = l.input(value("x"));
    l.check(globalPool(l.tape, x), { x });
  },
  "norm.train": (l) => {
    const x = l.input(value("x"), 6);
    const gamma = l.param("norm.gamma", "vector");
    const beta = l.param("norm.beta", "vector");
    const weight = { gamma: gamma.w, beta: beta.w, dgamma: gamma.dw, dbeta: beta.dw, eps: EPS };
    const running = { mean: l.vector(value("norm.mean").data), var: l.vector(value("norm.var").data), momentum: 0.1 };
    l.check(batchNorm(l.tape, x, weight, running, "none"), { x, gamma, beta });
    l.near("mean_after", floatsAt(l.backend, running.mean, 6));
    l.near("var_after", floatsAt(l.backend, running.var, 6));
  },
  "norm.eval": (l) => {
    const x = l.input(value("x"), 6);
    const every = (name: string) =>
      l.input({ shape: [x.n, 6], data: Float64Array.from({ length: x.n * 6 }, (_, i) => value(name).data[i % 6]!) });
    const mean = every("norm.mean");
    const variance = every("norm.var");
    const gamma = Float32Array.from(value("norm.gamma").data.subarray(0, 6));
    const beta = Float32Array.from(value("norm.beta").data.subarray(0, 6));
    const { scale, shift } = normFactors(l.tape, mean, variance, gamma, beta, EPS);
    l.check(affine(l.tape, x, scale, shift, "none"), { x });
    // The norm's own scale and shift are frozen in this mode; by the chain rule their gradients are those of the factors.
    const sum = (of: (i: number) => number) =>
      Float64Array.from({ length: 8 }, (_, c) => {
        if (c >= 6) return 0;
        return of(c) + of(6 + c) + of(12 + c);
      });
    const dscale = floatsAt(l.backend, scale.grad!.at, scale.size);
    const dshift = floatsAt(l.backend, shift.grad!.at, shift.size);
    const inverse = (i: number) => 1 / Math.sqrt(value("norm.var").data[i % 6]! + EPS);
    const dgamma = sum((i) => (dscale[i]! - dshift[i]! * value("norm.mean").data[i % 6]!) * inverse(i));
    l.near("grad.gamma", dgamma);
    l.near(
      "grad.beta",
      sum((i) => dshift[i]!),
    );
  },
  "se.": (l, [c]) => {
    const x = l.input(value("x"), c);
    const names = ["reduce.weight", "reduce.bias", "expand.weight", "expand.bias"] as const;
    const placed = Object.fromEntries(
      names.map((name) => [name, l.param(`se.${name}`, name.endsWith("bias") ? "vector" : "conv")]),
    ) as Record<(typeof names)[number], Placed>;
    const reduce = l.convWeight(placed["reduce.weight"], placed["reduce.bias"]);
    const expand = l.convWeight(placed["expand.weight"], placed["expand.bias"]);
    const reduced = affine(l.tape, conv(l.tape, globalPool(l.tape, x), reduce, 3), null, null, "relu");
    const factor = affine(l.tape, conv(l.tape, reduced, expand, c!), null, null, "sigmoid");
    l.check(affine(l.tape, x, factor, null, "none"), { x, ...placed });
  },
  smooth_ce: (l) => loss(l, { labels: labels(l), smoothing: 0.1 }),
  ce: (l) => loss(l, { labels: labels(l), smoothing: 0 }),
  soft_ce: (l) => loss(l, { probs: l.vector(value("loss.probs").data) }),
  gumbel: (l) => {
    const scores = l.input(value("loss.logits"), 4);
    const { choice, soft, picked } = straightThrough(l.tape, scores, Float32Array.from(value("gumbel.noise").data));
    l.near("soft", soft);
    assert.deepEqual([...picked], [...value("gumbel.choice").data]);
    assert.deepEqual(
      Array.from(picked, (k, i) => l.backend.f32[choice.at / 4 + i * 4 + k]),
      [1, 1, 1, 1],
    );
    l.backward(choice);
    l.near("grad", l.read(scores.grad!));
  },
};

function depthwiseLayer(l: Layer, name: string, c: number, stride: number): void {
  const x = l.input(value("x"), c);
  const weight = l.param(name, "depthwise");
  l.check(depthwise(l.tape, x, l.depthwiseWeight(weight, stride)), { x, weight });
}

function labels(l: Layer): number {
  const at = l.backend.arena.alloc(16);
  l.backend.i32.set(value("loss.labels").data, at / 4);
  return at;
}

function loss(l: Layer, target: Target): void {
  const logits = l.input(value("loss.logits"));
  l.near("out", [crossEntropy(l.tape, logits, target)]);
  l.near("grad", l.read(logits.grad!));
}

/** Names of the layers in the file: all that has an output, or is the gumbel layer. */
const names = [...values.keys()].flatMap(
  (name) => /^(.+)\.out$/.exec(name)?.[1] ?? (name === "gumbel.soft" ? "gumbel" : []),
);

describe("layers", () => {
  for (const backend of all) {
    it("forward and backward of each", (t) => {
      const comparison = new Comparison(tolerances);
      for (const name of names) {
        const key = Object.keys(layers).find((k) => (k.endsWith(".") ? name.startsWith(k) : name === k));
        assert.ok(key !== undefined, `nothing checks ${name}`);
        const numbers = Array.from(name.slice(key.length).matchAll(/\d+/g), ([digits]) => Number(digits));
        backend.arena.scope(() => layers[key]!(new Layer(backend, name, comparison), numbers));
      }
      comparison.report(t, backend);
    });
  }

  it("every result in the file is looked at", () => {
    const inputs =
      /^(x|loss\.\w+|gumbel\.noise|norm\.(gamma|beta|mean|var)|se\.(reduce|expand)\.\w+|\w+\.(weight|bias))$/;
    const results = [...values.keys()].filter((name) => !inputs.test(name) && !name.endsWith(".probe"));
    for (const result of results) {
      assert.ok(
        names.some((name) => result.startsWith(`${name}.`)),
        result,
      );
    }
  });
});
