/**
 * Multiply-adds of one image, counted as the published code does: convolutions, linear layers, and one for every input of an
 * average pool; biases, norms, activations and sums are free. Exact at every width; the slimming head, and a pool that is there
 * for it alone, count only where the network chooses (dynamic).
 */
import type { Routing } from "../io/model-file.js";
import { type Supernet, walkNetwork } from "../models/build.js";
import type { Exec } from "../nn/exec.js";
import { gateLayers } from "../nn/gate.js";
import type { Conv } from "../nn/layers.js";
import { channelsAt, choiceAt, type Position, type Route, startOf, widest } from "../nn/width.js";
import { outputSize } from "../ops/conv.js";
import { pooledSize } from "../ops/pool.js";

export interface LayerCost {
  name: string;
  kind: "conv" | "depthwise" | "pool" | "gate";
  /** Output height, width, channels. */
  shape: [number, number, number];
  madds: number;
}

interface Shape {
  h: number;
  w: number;
  c: number;
}

class CostExec implements Exec<Shape> {
  readonly layers: LayerCost[] = [];
  constructor(
    readonly route: Route,
    readonly dynamic: boolean,
  ) {}

  #add(kind: LayerCost["kind"], name: string, out: Shape, madds: number): Shape {
    this.layers.push({ name, kind, shape: [out.h, out.w, out.c], madds });
    return out;
  }

  #size(x: Shape, layer: { kernel: number; stride: number; pad: number }, c: number): Shape {
    return {
      h: outputSize(x.h, layer.kernel, layer.stride, layer.pad),
      w: outputSize(x.w, layer.kernel, layer.stride, layer.pad),
      c,
    };
  }

  conv(x: Shape, conv: Conv, _norm: unknown, _act: unknown, { slot }: Position): Shape {
    const out = this.#size(x, conv, channelsAt(conv.cout, slot));
    return this.#add("conv", conv.name, out, out.h * out.w * out.c * x.c * conv.kernel ** 2);
  }

  depthwise: Exec<Shape>["depthwise"] = (x, conv) => {
    const out = this.#size(x, conv, x.c);
    return this.#add("depthwise", conv.name, out, out.h * out.w * out.c * conv.kernel ** 2);
  };

  pool: Exec<Shape>["pool"] = (x, window) => {
    const out = { h: pooledSize(x.h, window), w: pooledSize(x.w, window), c: x.c };
    return this.#add("pool", "pool", out, window.kind === "average" ? x.h * x.w * x.c : 0);
  };

  globalPool(x: Shape): Shape {
    return this.#add("pool", "global pool", { h: 1, w: 1, c: x.c }, x.h * x.w * x.c);
  }

  gate: Exec<Shape>["gate"] = (gate, reduced) => {
    if (this.dynamic) {
      reduced();
      for (const { name, cin, cout } of gateLayers(gate)) {
        this.#add("gate", name, { h: 1, w: 1, c: widest(cout) }, widest(cin) * widest(cout));
      }
    }
    return choiceAt(this.route, gate.index);
  };

  scale = (x: Shape): Shape => x;
  features = (x: Shape): Shape => x;
  add = (a: Shape, b: Shape): Shape => ({ ...a, c: Math.max(a.c, b.c) });
}

/** Every layer in order of execution. `dynamic` adds the gates' heads. */
export function layerCosts(net: Supernet, route: Route, dynamic = false, input = net.spec.input): LayerCost[] {
  const exec = new CostExec(route, dynamic);
  walkNetwork(net.steps, exec, { h: input.height, w: input.width, c: input.channels }, startOf(route));
  return exec.layers;
}

export function madds(net: Supernet, route: Route, dynamic = false, input = net.spec.input): number {
  return layerCosts(net, route, dynamic, input).reduce((sum, layer) => sum + layer.madds, 0);
}

/**
 * What each candidate of each gate makes the network cost, the heads included. With several gates the others then choose their
 * middle candidate: a gate's share hardly depends on what they choose, and it is what an image's route is not yet known for.
 */
export function gateCosts(net: Supernet): number[][] {
  return net.gates.map(({ candidates, index }) =>
    candidates.map((k) => {
      const route = net.gates.map((gate) => gate.candidates[Math.floor(gate.candidates.length / 2)]!);
      route[index] = k;
      return madds(net, route, true);
    }),
  );
}

/**
 * What an image costs that ends at each candidate, where all gates choose it or a cascade comes to it: the slimmest, and then the wider
 * one from where the first gate stands. The gates' heads are counted either way, though a cascade runs none: they are a few thousand.
 */
export function candidateCosts(net: Supernet, by: Routing["by"]): number[] {
  const costs = net.gates[0]!.candidates.map((k) => madds(net, k, true));
  if (by === "gate") return costs;
  const [slimmest, ...wider] = costs as [number, ...number[]];
  return [slimmest, ...wider.map((whole) => slimmest + whole - maddsBeforeGate(net))];
}

/** MAdds of what runs before the first gate's choice, its head included. */
export function maddsBeforeGate(net: Supernet, input = net.spec.input): number {
  const layers = layerCosts(net, 0, true, input);
  const gate = net.gates[0]?.head.name;
  const last = layers.findIndex((layer) => layer.name === gate);
  return layers.slice(0, last + 1).reduce((sum, layer) => sum + layer.madds, 0);
}

/** Weights and biases that the network holds at a width: the prefixes in use, norms' scale and shift included. */
export function parameterCount(net: Supernet, route: Route): number {
  let count = 0;
  const cost = new CostExec(route, false);
  const exec: Exec<Shape> = {
    conv: (x, conv, norm, act, at) => {
      const out = cost.conv(x, conv, norm, act, at);
      count += out.c * x.c * conv.kernel ** 2 + (conv.bias ? out.c : 0) + (norm ? 2 * out.c : 0);
      return out;
    },
    depthwise: (x, conv, norm, act, at) => {
      count += x.c * conv.kernel ** 2 + 2 * x.c;
      return cost.depthwise(x, conv, norm, act, at);
    },
    gate: (gate, reduced, at) => {
      for (const layer of gateLayers(gate)) {
        count += layer.weight.size + (layer.bias?.size ?? 0);
      }
      return cost.gate(gate, reduced, at);
    },
    pool: cost.pool,
    globalPool: (x) => cost.globalPool(x),
    scale: cost.scale,
    add: cost.add,
    features: cost.features,
  };
  const { height: h, width: w, channels: c } = net.spec.input;
  walkNetwork(net.steps, exec, { h, w, c }, startOf(route));
  return count;
}
