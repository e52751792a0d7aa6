/**
 * MAdds as a function of the gates' choices, with its gradient: a layer behind a gate costs (gate-weighted input width) ×
 * (gate-weighted output width) × the rest. With one-hot choices the value is the route's exact count.
 */
import type { Supernet } from "../models/build.js";
import { walkNetwork } from "../models/build.js";
import type { Exec } from "../nn/exec.js";
import type { Gate } from "../nn/layers.js";
import { type Slot, slotIndex, widest } from "../nn/width.js";
import { outputSize } from "../ops/conv.js";
import { pooledSize } from "../ops/pool.js";

/** A number and its derivatives by every entry of every gate's choice. */
interface Dual {
  value: number;
  by: Float64Array;
}

/** A number of channels: expected over the choices of some gates. */
interface Width extends Dual {
  /** By number of channels how likely it is. */
  odds: ReadonlyMap<number, Dual>;
  gates: ReadonlySet<Gate>;
}

interface Shape {
  h: number;
  w: number;
  c: Width;
}

export interface GatedCost {
  madds: number;
  /** By gate and candidate. */
  gradient: Float64Array[];
}

/** `choices[gate][candidate]`: one image's straight-through values. `stale` counts depthwise layers behind a gate as the published code. */
export function gatedMadds(net: Supernet, choices: readonly ArrayLike<number>[], stale = false): GatedCost {
  const offsets = net.gates.map((_, i) => net.gates.slice(0, i).reduce((sum, g) => sum + g.candidates.length, 0));
  const count = net.gates.reduce((sum, g) => sum + g.candidates.length, 0);
  const total: Dual = { value: 0, by: new Float64Array(count) };
  let current: Gate | null = null;
  const constant = (value: number): Dual => ({ value, by: new Float64Array(count) });
  const weighed = (odds: ReadonlyMap<number, Dual>, gates: Iterable<Gate>): Width => {
    const { by } = constant(0);
    let value = 0;
    for (const [channels, p] of odds) {
      value += p.value * channels;
      for (let i = 0; i < count; i++) by[i] = by[i]! + p.by[i]! * channels;
    }
    return { value, by, odds, gates: new Set(gates) };
  };
  const fixed = (channels: number): Width => weighed(new Map([[channels, constant(1)]]), []);
  const add = (odds: Map<number, Dual>, channels: number, p: Dual): void => {
    const before = odds.get(channels) ?? constant(0);
    odds.set(channels, { value: before.value + p.value, by: before.by.map((slope, i) => slope + p.by[i]!) });
  };
  const width = (widths: readonly number[], slot: Slot): Width => {
    if (current === null || widths.length === 1) return fixed(widths[slotIndex(widths, slot)]!);
    const gate = current;
    const odds = new Map<number, Dual>();
    gate.candidates.forEach((k, i) => {
      const p = constant(choices[gate.index]![i]!);
      p.by[offsets[gate.index]! + i] = 1;
      add(odds, widths[k]!, p);
    });
    return weighed(odds, [gate]);
  };
  const times = (a: Dual, b: Dual): Dual => ({
    value: a.value * b.value,
    by: a.by.map((slope, i) => slope * b.value + a.value * b.by[i]!),
  });
  /** Of a residual sum: a stream that hangs on the block's own gate already is no narrower than the block's output. */
  const wider = (block: Width, stream: Width): Width => {
    if (block.gates.size > 0 && [...block.gates].every((gate) => stream.gates.has(gate))) return stream;
    const odds = new Map<number, Dual>();
    for (const [m, p] of block.odds) for (const [n, q] of stream.odds) add(odds, Math.max(m, n), times(p, q));
    return weighed(odds, [...block.gates, ...stream.gates]);
  };
  const spend = (cost: Dual, factor: number): void => {
    total.value += cost.value * factor;
    for (let i = 0; i < count; i++) total.by[i] = total.by[i]! + cost.by[i]! * factor;
  };
  const size = (x: Shape, layer: { kernel: number; stride: number; pad: number }, c: Width): Shape => ({
    h: outputSize(x.h, layer.kernel, layer.stride, layer.pad),
    w: outputSize(x.w, layer.kernel, layer.stride, layer.pad),
    c,
  });
  const exec: Exec<Shape> = {
    conv: (x, conv, _norm, _act, { slot }) => {
      const y = size(x, conv, width(conv.cout, slot));
      spend(times(x.c, y.c), y.h * y.w * conv.kernel ** 2);
      return y;
    },
    depthwise: (x, conv) => {
      const y = size(x, conv, x.c);
      const pixels = y.h * y.w * conv.kernel ** 2;
      if (stale && current !== null && conv.widths.length > 1) {
        spend(times(x.c, x.c), pixels / conv.widths[current.candidates[0]!]!);
      } else {
        spend(x.c, pixels);
      }
      return y;
    },
    pool: (x, window) => {
      if (window.kind === "average") spend(x.c, x.h * x.w);
      return { h: pooledSize(x.h, window), w: pooledSize(x.w, window), c: x.c };
    },
    globalPool: (x) => {
      spend(x.c, x.h * x.w);
      return { h: 1, w: 1, c: x.c };
    },
    gate: (gate, reduced) => {
      const hidden = gate.hidden === null ? null : widest(gate.hidden.cout);
      spend(reduced().c, hidden ?? gate.candidates.length);
      if (hidden !== null) spend(constant(hidden), gate.candidates.length);
      current = gate;
      return gate.candidates[gate.candidates.length - 1]!;
    },
    scale: (x) => x,
    features: (x) => x,
    add: (block, stream) => ({ ...block, c: wider(block.c, stream.c) }),
  };
  const { height: h, width: w, channels } = net.spec.input;
  walkNetwork(net.steps, exec, { h, w, c: fixed(channels) }, 0);
  return {
    madds: total.value,
    gradient: net.gates.map((gate, i) => total.by.slice(offsets[i], offsets[i]! + gate.candidates.length)),
  };
}
