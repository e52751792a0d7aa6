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

interface Shape {
  h: number;
  w: number;
  c: Dual;
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
  const width = (widths: readonly number[], slot: Slot): Dual => {
    if (current === null || widths.length === 1) return constant(widths[slotIndex(widths, slot)]!);
    const dual = constant(0);
    current.candidates.forEach((k, i) => {
      dual.value += choices[current!.index]![i]! * widths[k]!;
      dual.by[offsets[current!.index]! + i] = widths[k]!;
    });
    return dual;
  };
  const times = (a: Dual, b: Dual): Dual => ({
    value: a.value * b.value,
    by: a.by.map((slope, i) => slope * b.value + a.value * b.by[i]!),
  });
  // By a choice: the wider of what both become at it. `by` holds that, and 0 where a width does not depend on the gate.
  const wider = (a: Dual, b: Dual): Dual => ({
    value: Math.max(a.value, b.value),
    by: a.by.map((slope, i) => (slope === 0 && b.by[i] === 0 ? 0 : Math.max(slope || a.value, b.by[i]! || b.value))),
  });
  const spend = (cost: Dual, factor: number): void => {
    total.value += cost.value * factor;
    for (let i = 0; i < count; i++) total.by[i] = total.by[i]! + cost.by[i]! * factor;
  };
  const size = (x: Shape, layer: { kernel: number; stride: number; pad: number }, c: Dual): Shape => ({
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
      spend(reduced.c, hidden ?? gate.candidates.length);
      if (hidden !== null) spend(constant(hidden), gate.candidates.length);
      current = gate;
      return gate.candidates[gate.candidates.length - 1]!;
    },
    scale: (x) => x,
    features: (x) => x,
    add: (a, b) => ({ ...a, c: wider(a.c, b.c) }),
  };
  const { height: h, width: w, channels } = net.spec.input;
  walkNetwork(net.steps, exec, { h, w, c: constant(channels) }, 0);
  return {
    madds: total.value,
    gradient: net.gates.map((gate, i) => total.by.slice(offsets[i], offsets[i]! + gate.candidates.length)),
  };
}
