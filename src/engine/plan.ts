/**
 * A network compiled for one input size: kernel records over memory laid out once. The walk is cut at the gates into
 * segments; each segment has a variant for every width that can come in and be chosen, all reading the same weights. They do
 * not grow in number with the routes: of what lies two gates back only the width of the residual stream is left.
 *
 * Batch 1 with routing is one call: the records end in OP_ROUTE, which goes on at the chosen variant. A larger batch runs
 * to the gate, is sorted into buckets by choice, and each bucket runs dense; any composition gives the bits of batch 1. A cascade
 * runs the slimmest variant on all, and the wider one on those that are unsure, from the same activations.
 *
 * Where the activations before the first gate are large, that part takes one image after the other whatever the batch: they
 * then stay in the processor's cache, and need little memory.
 */
import type { Backend } from "../backend/backend.js";
import { encode, RECORD_BYTES, scratchWord } from "../backend/records.js";
import { costBias } from "../cost/bias.js";
import { gateCosts } from "../cost/madds.js";
import { ShapeError, UsageError } from "../errors.js";
import type { Cascade, Routing } from "../io/model-file.js";
import { cutAtGates, type Supernet, walkToGate } from "../models/build.js";
import { passGate, type Step, startWalk, type Walk } from "../nn/blocks.js";
import type { Gate } from "../nn/layers.js";
import { choiceAt, type Route, type Slot, startOf } from "../nn/width.js";
import { confidenceOf } from "../ops/softmax.js";
import { type Activations, type Buffer, type Constants, EmitExec, type PlannedOp } from "./emit.js";
import { FoldedNorms } from "./fold.js";
import { layOut, type Segment } from "./layout.js";

/** The records of one segment at one width in and one width chosen. */
interface Variant extends Segment {
  readonly ops: readonly PlannedOp[];
  readonly scores: Activations | null;
  /** What its gate reads, and what passes it. */
  readonly crossing: { x: Activations; input: Activations | null; reduced: Activations } | null;
  readonly logits: Activations | null;
  readonly gate: Gate | null;
  /** What follows, by the slot chosen. */
  readonly next: Map<Slot, Variant>;
  /** Index of the first record, their number without the route, and that without what only the gate asks for. */
  first: number;
  readonly count: number;
  readonly ungated: number;
}

/** An activation of every image: its address and one image's shape. */
export interface Placed {
  at: number;
  h: number;
  w: number;
  c: number;
}

/** One kernel call of a plan. */
export interface PlannedRecord {
  /** Of its layer, as cost/madds.ts names it; else of what it does. */
  name: string;
  /** Where it lies. */
  at: number;
  /** Runs it alone as often as n images need; where the plan takes one image at a time, each result lies over the last. */
  run(n: number): void;
}

/** Floats of an activation of which a few fill a second-level cache. */
const LARGE = 2 ** 16;

export interface PlanOptions {
  /** Most images a call may bring. */
  batch: number;
  /** Slots to compile; all numbered widths if left out. */
  slots?: readonly Slot[];
  /** Compile routing at the gates. Default: where the network has gates. */
  dynamic?: boolean;
}

export class Plan {
  /** Where the caller writes the images: n · h · w · c floats. They stay as they are. */
  readonly input: number;
  /** Where the logits of a call are: n · classes floats. */
  readonly logits: number;
  readonly batch: number;
  readonly #backend: Backend;
  readonly #net: Supernet;
  readonly #span: number;
  readonly #folded: FoldedNorms;
  readonly #segments: Step[][];
  readonly #roots = new Map<Slot, Variant>();
  readonly #allocations: number[] = [];
  #records = 0;
  #recordCount = 0;
  /** Per gate: int32 of the last choice (batch 1), one bias per candidate, and room for a batch that is being sorted. */
  readonly #choices: number[] = [];
  readonly #biases: number[] = [];
  readonly #stashes: number[] = [];
  readonly #addresses = new Map<Buffer, number>();
  /** By gate and candidate; what λ weighs. */
  #gateCosts: readonly (readonly number[])[] | null = null;

  /** `span`: the weights, in the network's layout; they are read at every call and never copied. */
  constructor(backend: Backend, net: Supernet, span: number, options: PlanOptions) {
    this.#backend = backend;
    this.#net = net;
    this.#span = span;
    this.batch = options.batch;
    this.#folded = new FoldedNorms(backend);
    this.#segments = cutAtGates(net.steps);
    try {
      const { height: h, width: w, channels: c } = net.spec.input;
      const image: Activations = { h, w, c, buffer: { floats: h * w * c } };
      const dynamic = options.dynamic ?? net.gates.length > 0;
      const slots = options.slots ?? Array.from({ length: net.widths }, (_, k) => k);
      const memo = new Map<string, Variant>();
      // Slot 0 first: its root is record 0, where a routed run begins.
      const roots: Slot[] = [];
      if (dynamic || slots.some((s) => s !== "largest")) roots.push(0);
      if (slots.includes("largest")) roots.push("largest");
      for (const slot of roots) {
        this.#roots.set(slot, this.#compile(memo, 0, startWalk(image, slot), [image.buffer], slots, dynamic));
      }
      const variants = [...memo.values()];
      const { bytes, offsets } = layOut(variants, image.buffer, options.batch);
      const base = this.#alloc(bytes);
      for (const [buffer, offset] of offsets) this.#addresses.set(buffer, base + offset);
      this.input = this.#addresses.get(image.buffer)!;
      this.logits = this.#alloc(options.batch * net.spec.classes * 4);
      for (const gate of net.gates) {
        this.#choices.push(this.#alloc(4));
        const bias = this.#alloc(gate.candidates.length * 4);
        backend.f32.fill(0, bias / 4, bias / 4 + gate.candidates.length);
        this.#biases.push(bias);
        const crossing = Math.max(...variants.filter((v) => v.gate === gate).map((v) => boundaryFloats(v)), 0);
        this.#stashes.push(options.batch > 1 ? this.#alloc(crossing * options.batch * 4) : 0);
      }
      this.#write(variants);
      this.refresh();
    } catch (error) {
      this.dispose(); // what was allocated before the memory ran out
      throw error;
    }
  }

  /** Call after weights or statistics in the span have changed. */
  refresh(): void {
    this.#folded.refresh(this.#span);
  }

  /** Runs the first n images of `input` on one route. Nothing is chosen, so no gate runs. */
  run(n: number, route: Route): void {
    this.#check(n);
    const variants = this.#along(route);
    for (const variant of variants) this.#runVariant(variant, n, variant.ungated);
    this.#copyLogits(variants[variants.length - 1]!, 0, n);
  }

  /** The logits of the last call's first n images, [image][class]: a view, which the next call changes. */
  readLogits(n: number): Float32Array {
    const at = this.logits / 4;
    return this.#backend.f32.subarray(at, at + n * this.#net.spec.classes);
  }

  /** What `run` runs on this route, in order, with what its gates ask for. */
  records(route: Route): PlannedRecord[] {
    return this.#along(route).flatMap(({ ops, first, single }) =>
      ops.map(({ name }, i) => {
        const at = this.#records + (first + i) * RECORD_BYTES;
        const run = (n: number) => {
          this.#check(n);
          if (!single) this.#backend.run(at, 1, n);
          else for (let image = 0; image < n; image++) this.#backend.run(at, 1, 1);
        };
        return { name, at, run };
      }),
    );
  }

  /**
   * Runs the first n images of `input`, each at the width its gate picks: argmax(score + bias). Returns the slot chosen,
   * [image][gate].
   */
  runDynamic(n: number): number[][] {
    this.#check(n);
    const root = this.#roots.get(0);
    if (root?.gate == null) throw new UsageError("this network has no gate, give a width");
    if (n === 1) {
      this.#backend.run(this.#records, this.#recordCount, 1);
      const route = this.#net.gates.map((gate, g) => gate.candidates[this.#backend.i32[this.#choices[g]! / 4]!]!);
      let variant = root;
      for (const slot of route) variant = variant.next.get(slot)!;
      this.#copyLogits(variant, 0, 1);
      return [route];
    }
    const routes: number[][] = Array.from({ length: n }, () => []);
    this.#runBucket(root, range(n), (variant, gate, images) => {
      const buckets = this.#choose(variant, gate, images.length);
      buckets.forEach((members, k) => {
        for (const row of members) routes[images[row]!]!.push(gate.candidates[k]!);
      });
      return buckets;
    });
    return routes;
  }

  /**
   * Runs the first n images of `input` at the slimmest candidate, and those whose confidence is below the threshold on at `wider`
   * from where the gate stands: what lies there is read a second time, from its place. Returns the width that answered, [image][gate],
   * as `runDynamic` does. For networks with one gate.
   */
  runCascade(n: number, { wider, threshold }: Cascade): number[][] {
    this.#check(n);
    const [gate, ...others] = this.#net.gates;
    if (gate === undefined || others.length > 0) {
      throw new UsageError(`a cascade needs a network with one gate, this one has ${this.#net.gates.length}`);
    }
    const slimmest = gate.candidates[0]!;
    const [head, slim] = this.#along(slimmest) as [Variant, Variant];
    this.#runVariant(head, n, head.ungated);
    this.#runVariant(slim, n);
    this.#copyLogits(slim, 0, n);
    const { classes } = this.#net.spec;
    const logits = this.readLogits(n);
    // Plain loops: of a small network's image, arrays and views would be a fiftieth of the time.
    const routes: number[][] = [];
    const unsure: number[] = [];
    for (let i = 0; i < n; i++) {
      routes.push([slimmest]);
      if (confidenceOf(logits, i * classes, classes) < threshold) unsure.push(i);
    }
    if (unsure.length === 0) return routes;
    const wide = head.next.get(wider);
    if (wide === undefined) throw new UsageError(`width ${wider} was not compiled into this plan`);
    this.#gather(head.boundary, unsure);
    this.#runVariant(wide, unsure.length);
    unsure.forEach((image, row) => {
      this.#copyLogit(wide, row, image);
      routes[image] = [wider];
    });
    return routes;
  }

  /** Runs the first n images of `input` as `routing` says. Returns the width chosen, [image][gate]. */
  runRouted(n: number, routing: Routing): number[][] {
    if (routing.by === "cascade") return this.runCascade(n, routing);
    this.setLambda(routing.lambda);
    return this.runDynamic(n);
  }

  /** Runs the first n images of `input`, each on a route of its own through the gates' candidates, [image][gate]. */
  runRoutes(routes: readonly (readonly number[])[]): void {
    this.#check(routes.length);
    this.#runBucket(this.#roots.get(0)!, range(routes.length), (_, { index, candidates }, images) =>
      candidates.map((slot) => range(images.length).filter((row) => routes[images[row]!]![index] === slot)),
    );
  }

  /** The first gate's scores of the last call's images, [image][candidate]. Runs only the part before the gate. */
  gateScores(n: number): Float32Array {
    this.#check(n);
    const root = this.#roots.get(0)!;
    this.#runVariant(root, n);
    const scores = root.scores!;
    const at = this.#addresses.get(scores.buffer)! / 4;
    return this.#backend.f32.slice(at, at + n * scores.c);
  }

  /** What the first gate reads, [image][feature], for the first n images of `input`. */
  gateFeatures(n: number): Float32Array {
    const { at, c } = this.runToGate(n).reduced;
    return this.#backend.f32.slice(at / 4, at / 4 + n * c);
  }

  /** Runs the first n images of `input` up to the first gate. What lies where holds until the next call. */
  runToGate(n: number): { x: Placed; input: Placed | null; reduced: Placed } {
    this.#check(n);
    const root = this.#roots.get(0)!;
    this.#runVariant(root, n);
    const placed = ({ h, w, c, buffer }: Activations): Placed => ({ at: this.#addresses.get(buffer)!, h, w, c });
    const { x, input, reduced } = root.crossing!;
    return { x: placed(x), input: input === null ? null : placed(input), reduced: placed(reduced) };
  }

  /** Lets every gate weigh its candidates' cost by λ. */
  setLambda(lambda: number): void {
    this.#gateCosts ??= gateCosts(this.#net);
    this.#gateCosts.forEach((madds, gate) => {
      this.setBias(gate, costBias(lambda, madds));
    });
  }

  /** Added to the gate's scores before its argmax, one per candidate. 0 until it is set. */
  setBias(gate: number, bias: readonly number[]): void {
    this.#backend.f32.set(bias, this.#biases[gate]! / 4);
  }

  dispose(): void {
    for (const at of this.#allocations) this.#backend.arena.free(at);
    this.#allocations.length = 0;
    this.#folded.dispose();
  }

  // ---- compiling ----

  #compile(
    memo: Map<string, Variant>,
    segment: number,
    from: Walk<Activations>,
    incoming: readonly Buffer[],
    slots: readonly Slot[],
    dynamic: boolean,
  ): Variant {
    const { slot, from: last } = from.at;
    const key = [segment, slot, last, from.x.c, from.input?.c].join(" ");
    const known = memo.get(key);
    if (known !== undefined) return known;
    const constants: Constants = {
      param: (param) => this.#span + param.offset * 4,
      folded: (norm, slot) => this.#folded.at(norm, slot),
    };
    const exec = new EmitExec(constants, this.#net.precision);
    const walk = { ...from };
    const steps = this.#segments[segment]!;
    const at = walkToGate(steps, exec, walk);
    const gate = steps[steps.length - 1]!.gate;
    const boundary = gate === null ? [] : [walk.x.buffer, ...(walk.input === null ? [] : [walk.input.buffer])];
    const read = [exec.scores, gate === null ? walk.x : walk.reduced];
    const variant: Variant = {
      ops: exec.ops,
      boundary: [...new Set(boundary)],
      outcomes: read.flatMap((x) => (x === null ? [] : [x.buffer])),
      scores: exec.scores,
      crossing: gate === null ? null : { x: walk.x, input: walk.input, reduced: walk.reduced! },
      logits: gate === null ? walk.x : null,
      gate,
      next: new Map(),
      segment,
      in: incoming,
      single: segment === 0 && gate !== null && exec.ops.some(({ buffers }) => buffers.some((b) => b.floats >= LARGE)),
      first: 0,
      count: exec.ops.length,
      ungated: exec.ungated ?? exec.ops.length,
    };
    memo.set(key, variant);
    if (gate === null) return variant;
    const chosen: Slot[] = slot === "largest" ? ["largest"] : slots.filter((s) => s !== "largest");
    if (dynamic && slot !== "largest") chosen.push(...gate.candidates);
    for (const choice of new Set(chosen)) {
      const next = { ...walk, at: passGate(at, gate, choice), reduced: null };
      variant.next.set(choice, this.#compile(memo, segment + 1, next, variant.boundary, slots, dynamic));
    }
    return variant;
  }

  #write(variants: readonly Variant[]): void {
    let count = 0;
    for (const v of variants) {
      v.first = count;
      count += v.count + 1;
    }
    this.#recordCount = count;
    this.#records = this.#alloc(count * RECORD_BYTES);
    const probe = this.#alloc(RECORD_BYTES);
    let scratch = 0;
    const needs: number[] = [];
    const address = (b: Buffer) => this.#addresses.get(b)!;
    for (const v of variants) {
      v.ops.forEach((op, i) => {
        const call = op.call(address);
        const at = this.#records + (v.first + i) * RECORD_BYTES;
        encode(this.#backend.i32, this.#backend.f32, at / 4, call);
        const word = scratchWord(call.op);
        if (word > 0) {
          encode(this.#backend.i32, this.#backend.f32, probe / 4, { ...call, n: this.batch } as typeof call);
          scratch = Math.max(scratch, this.#backend.scratchBytes(probe));
          needs.push(at / 4 + word);
        }
      });
      const end = (this.#records + (v.first + v.count) * RECORD_BYTES) / 4;
      if (v.gate === null || v.next.size === 0 || !v.gate.candidates.every((k) => v.next.has(k))) {
        encode(this.#backend.i32, this.#backend.f32, end, { op: "end" });
        continue;
      }
      const targets = this.#alloc(v.gate.candidates.length * 4);
      v.gate.candidates.forEach((k, i) => {
        this.#backend.i32[targets / 4 + i] = v.next.get(k)!.first;
      });
      encode(this.#backend.i32, this.#backend.f32, end, {
        op: "route",
        scores: address(v.scores!.buffer),
        bias: this.#biases[v.gate.index]!,
        choice: this.#choices[v.gate.index]!,
        targets,
        count: v.gate.candidates.length,
      });
    }
    if (scratch > 0) {
      const at = this.#alloc(scratch);
      for (const word of needs) this.#backend.i32[word] = at;
    }
  }

  #alloc(bytes: number): number {
    const at = this.#backend.arena.alloc(bytes, true);
    this.#allocations.push(at);
    return at;
  }

  // ---- running ----

  #check(n: number): void {
    if (!Number.isInteger(n) || n < 1 || n > this.batch) {
      throw new ShapeError(`plan: expected 1 to ${this.batch} images, got ${n}`);
    }
  }

  /** The variant of every segment on one route. */
  #along(route: Route): Variant[] {
    const variants: Variant[] = [];
    let variant = this.#roots.get(startOf(route));
    for (;;) {
      if (variant === undefined) throw new UsageError(`width ${route} was not compiled into this plan`);
      variants.push(variant);
      if (variant.gate === null) return variants;
      variant = variant.next.get(choiceAt(route, variant.gate.index));
    }
  }

  #runVariant(variant: Variant, n: number, count = variant.count): void {
    const run = (images: number) => this.#backend.run(this.#records + variant.first * RECORD_BYTES, count, images);
    if (!variant.single || n === 1) {
      run(n);
      return;
    }
    const { u8 } = this.#backend;
    const results = new Set([...variant.boundary, ...variant.outcomes]);
    // The last image first: what it leaves at the first place is then moved to its own, and the first image's stays.
    for (let i = n - 1; i >= 0; i--) {
      this.#aim(variant, i);
      run(1);
      if (i === 0) break;
      for (const b of results) {
        const at = this.#addresses.get(b)!;
        u8.copyWithin(at + i * b.floats * 4, at, at + b.floats * 4);
      }
    }
  }

  /** Lets the records that read the images read image i. An op's first buffer is its record's first operand. */
  #aim(variant: Variant, i: number): void {
    const [image] = variant.in;
    variant.ops.forEach(({ buffers }, op) => {
      const word = (this.#records + (variant.first + op) * RECORD_BYTES) / 4 + 1;
      if (buffers[0] === image) this.#backend.i32[word] = this.input + i * image!.floats * 4;
    });
  }

  #copyLogits(variant: Variant, to: number, n: number): void {
    const bytes = this.#net.spec.classes * 4;
    const from = this.#addresses.get(variant.logits!.buffer)!;
    this.#backend.u8.copyWithin(this.logits + to * bytes, from, from + n * bytes);
  }

  /**
   * Runs `images`, whose activations lie dense in the variant's incoming area, and what follows. `sort` puts the rows into a
   * bucket for each candidate of a gate.
   */
  #runBucket(
    variant: Variant,
    images: readonly number[],
    sort: (variant: Variant, gate: Gate, images: readonly number[]) => number[][],
  ): void {
    const n = images.length;
    this.#runVariant(variant, n);
    const { gate } = variant;
    if (gate === null) {
      images.forEach((image, i) => {
        this.#copyLogit(variant, i, image);
      });
      return;
    }
    const { u8 } = this.#backend;
    const buckets = sort(variant, gate, images);
    const stash = this.#stashes[gate.index]!;
    let at = stash;
    for (const b of variant.boundary) {
      const from = this.#addresses.get(b)!;
      u8.copyWithin(at, from, from + n * b.floats * 4);
      at += n * b.floats * 4;
    }
    buckets.forEach((members, k) => {
      if (members.length === 0) return;
      const slot = gate.candidates[k]!;
      let source = stash;
      for (const b of variant.boundary) {
        const bytes = b.floats * 4;
        const to = this.#addresses.get(b)!;
        members.forEach((i, row) => {
          u8.copyWithin(to + row * bytes, source + i * bytes, source + (i + 1) * bytes);
        });
        source += n * bytes;
      }
      this.#runBucket(
        variant.next.get(slot)!,
        members.map((i) => images[i]!),
        sort,
      );
    });
  }

  /** Moves these rows, ascending, to the front. */
  #gather(buffers: readonly Buffer[], rows: readonly number[]): void {
    for (const b of buffers) {
      const [at, bytes] = [this.#addresses.get(b)!, b.floats * 4];
      rows.forEach((row, i) => {
        if (row !== i) this.#backend.u8.copyWithin(at + i * bytes, at + row * bytes, at + (row + 1) * bytes);
      });
    }
  }

  #copyLogit(variant: Variant, from: number, to: number): void {
    const bytes = this.#net.spec.classes * 4;
    const at = this.#addresses.get(variant.logits!.buffer)! + from * bytes;
    this.#backend.u8.copyWithin(this.logits + to * bytes, at, at + bytes);
  }

  /** Rows by choice, as OP_ROUTE chooses: float32 sums, the first of equals. */
  #choose(variant: Variant, gate: Gate, n: number): number[][] {
    const { f32 } = this.#backend;
    const scores = this.#addresses.get(variant.scores!.buffer)! / 4;
    const bias = this.#biases[gate.index]! / 4;
    const count = gate.candidates.length;
    const buckets: number[][] = Array.from({ length: count }, () => []);
    for (let i = 0; i < n; i++) {
      let best = 0;
      let top = Number.NEGATIVE_INFINITY;
      for (let k = 0; k < count; k++) {
        const score = Math.fround(f32[scores + i * count + k]! + f32[bias + k]!);
        if (k === 0 || score > top) {
          top = score;
          best = k;
        }
      }
      buckets[best]!.push(i);
    }
    return buckets;
  }
}

function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

function boundaryFloats(variant: Variant): number {
  return variant.boundary.reduce((sum, b) => sum + b.floats, 0);
}
