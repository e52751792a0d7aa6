/**
 * A sub-network cut out: the same walk, but every layer is a narrow one of its own, whose weights are copies of the prefixes.
 * There is nothing slimmable about it, so it shows what the slices have to compute.
 */
import type { Backend } from "../../src/backend/backend.js";
import { type Supernet, walkNetwork } from "../../src/models/build.js";
import { allocSpan } from "../../src/models/state.js";
import type { Step } from "../../src/nn/blocks.js";
import type { Exec } from "../../src/nn/exec.js";
import type { Conv, Depthwise, Norm } from "../../src/nn/layers.js";
import { Layout, Param } from "../../src/nn/parameters.js";
import { channelsAt, type Slot, slotIndex } from "../../src/nn/width.js";

interface Channels {
  c: number;
}

/** Fills a narrow parameter from the supernet's. */
interface Copy {
  from: Param;
  to: Param;
}

export class StandAlone {
  readonly net: Supernet;
  readonly #copies: Copy[] = [];
  readonly #layers = new Map<string, unknown>();
  readonly #slot: Slot;

  /** `net` at `slot`: a number holds behind the first gate, before it is slot 0. */
  constructor(net: Supernet, slot: Slot) {
    this.#slot = slot;
    const steps = net.steps.map((step): Step => {
      return { name: step.name, gate: null, run: (exec, walk) => step.run(this.#narrow(exec), walk) };
    });
    // One walk that only looks makes the layers.
    walkNetwork<Channels>(steps, widthsOnly, { c: net.spec.input.channels }, 0);
    const layout = new Layout(this.#copies.map(({ to }) => to));
    this.net = { ...net, steps, layout, gates: [], widths: 1, largestIsNumbered: true };
  }

  /** The narrow weights, from the supernet's in `span`. */
  span(backend: Backend, span: number): number {
    const own = allocSpan(backend, this.net.layout.floats);
    const part = (param: Param, at: number) => backend.f32.subarray(param.in(at) / 4, param.in(at) / 4 + param.floats);
    for (const { from, to } of this.#copies) {
      to.pack(prefix(from.unpack(part(from, span)), from.shape, to.shape), part(to, own));
    }
    return own;
  }

  #param(from: Param, shape: readonly number[], name = from.name): Param {
    const to = new Param(name, from.kind, shape, from.role, shape.slice(0, from.fileShape.length));
    this.#copies.push({ from, to });
    return to;
  }

  /** The layer of that name, made by `make` the first time it is met. */
  #once<L>(name: string, make: () => L): L {
    if (!this.#layers.has(name)) this.#layers.set(name, make());
    return this.#layers.get(name) as L;
  }

  #conv(conv: Conv, cin: number, slot: Slot): Conv {
    return this.#once(conv.name, () => {
      const cout = channelsAt(conv.cout, slot);
      const weight = this.#param(conv.weight, [cout, cin, conv.kernel, conv.kernel]);
      const bias = conv.bias === null ? null : this.#param(conv.bias, [cout]);
      return { ...conv, weight, bias, cin: [cin], cout: [cout] };
    });
  }

  #depthwise(conv: Depthwise, c: number): Depthwise {
    return this.#once(conv.name, () => {
      return { ...conv, weight: this.#param(conv.weight, [c, 1, conv.kernel, conv.kernel]), widths: [c] };
    });
  }

  /** Its parameters have the names of a norm with one entry. */
  #norm(norm: Norm, slot: Slot): Norm {
    return this.#once(norm.name, () => {
      const c = [channelsAt(norm.widths, slot)];
      const own = (from: Param, name: string) => this.#param(from, c, `${norm.name}.aux_bn.0.${name}`);
      const stats = norm.stats[slotIndex(norm.widths, slot)];
      return {
        ...norm,
        weight: own(norm.weight, "weight"),
        bias: own(norm.bias, "bias"),
        widths: c,
        stats: stats ? [{ mean: own(stats.mean, "running_mean"), var: own(stats.var, "running_var") }] : [],
      };
    });
  }

  /** Hands narrow layers on to `exec`. */
  #narrow<T>(exec: Exec<T>): Exec<T> {
    // Before the gate a walk stands at 0, whatever comes.
    const at = (slot: Slot): Slot => (slot === 0 && this.#slot === "largest" ? "largest" : slot);
    const channels = (x: T) => (x as unknown as Channels).c;
    return {
      conv: (x, conv, norm, act, slot) =>
        exec.conv(x, this.#conv(conv, channels(x), at(slot)), norm && this.#norm(norm, at(slot)), act, 0),
      depthwise: (x, conv, norm, act, slot) =>
        exec.depthwise(x, this.#depthwise(conv, channels(x)), this.#norm(norm, at(slot)), act, 0),
      gate: () => this.#slot,
      pool: (x, window) => exec.pool(x, window),
      globalPool: (x) => exec.globalPool(x),
      scale: (x, factor) => exec.scale(x, factor),
      add: (a, b) => exec.add(a, b),
      features: (x) => exec.features(x),
    };
  }
}

const widthsOnly: Exec<Channels> = {
  conv: (_x, conv) => ({ c: conv.cout[0]! }),
  depthwise: (x) => x,
  gate: (_gate, _reduced, slot) => slot,
  pool: (x) => x,
  globalPool: (x) => x,
  scale: (x) => x,
  add: (a) => a,
  features: (x) => x,
};

/** The first values along every axis. */
function prefix(values: Float32Array, shape: readonly number[], narrow: readonly number[]): Float32Array {
  const out = new Float32Array(narrow.reduce((a, b) => a * b, 1));
  for (let i = 0; i < out.length; i++) {
    let rest = i;
    let at = 0;
    let stride = 1;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += (rest % narrow[axis]!) * stride;
      rest = Math.floor(rest / narrow[axis]!);
      stride *= shape[axis]!;
    }
    out[i] = values[at]!;
  }
  return out;
}
