/**
 * Recalibration: every width's norm statistics measured anew, on the final weights. By default the plain average over the
 * batches, `largest` included, on clean images; the published code keeps its momentum and leaves `largest` out.
 *
 * With several gates the routes are random, and every pair of slots before and behind a gate occurs once a batch. Group norm
 * has nothing to measure.
 */
import type { Backend } from "../backend/backend.js";
import { type Supernet, slotsOf, splitAtGate, walkOn } from "../models/build.js";
import { startWalk } from "../nn/blocks.js";
import { NORM_MOMENTUM, type Norm } from "../nn/layers.js";
import type { Route, Slot } from "../nn/width.js";
import { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import { Philox } from "../random/philox.js";
import type { TrainConfig } from "./config.js";
import { TrainExec } from "./forward.js";

/** The widths that a recalibration measures. */
export function calibratedSlots(net: Supernet, compat: TrainConfig["compat"]): Slot[] {
  return slotsOf(net).filter((slot) => compat === "paper" || slot !== "largest");
}

/**
 * Routes that send a batch through every pair of slots before and behind a gate exactly once: widths² of them, each gate's
 * choices a random permutation of the slots for those that come in with one slot. Every route is equally likely.
 */
export function coveringRoutes({ widths, gates }: Pick<Supernet, "widths" | "gates">, random: Philox): number[][] {
  const routes = Array.from({ length: widths ** 2 }, (_, i) => [i % widths]);
  for (let g = 1; g < gates.length; g++) {
    for (let slot = 0; slot < widths; slot++) {
      const order = Array.from({ length: widths }, (_, k) => k);
      random.shuffle(order);
      const group = routes.filter((route) => route.length === g && route[g - 1] === slot);
      for (const [i, route] of group.entries()) route.push(order[i]!);
    }
  }
  return routes;
}

export class Recalibration {
  /** The widths whose statistics hold afterwards. */
  readonly slots: readonly Slot[];
  readonly #backend: Backend;
  readonly #net: Supernet;
  readonly #span: number;
  readonly #published: boolean;
  /** Batches that each entry of a norm has seen, and all. */
  readonly #seen = new Map<string, number>();
  #batches = 0;

  /** Forgets the statistics in `span`; feed it batches with `add`. */
  constructor(backend: Backend, net: Supernet, span: number, compat: TrainConfig["compat"]) {
    this.#backend = backend;
    this.#net = net;
    this.#span = span;
    this.#published = compat === "published";
    this.slots = calibratedSlots(net, compat);
    for (const norm of net.norms) {
      for (const { mean, var: variance } of norm.stats) {
        backend.f32.fill(0, mean.in(span) / 4, mean.in(span) / 4 + mean.size);
        backend.f32.fill(1, variance.in(span) / 4, variance.in(span) / 4 + variance.size);
      }
    }
  }

  /** One batch through every width. */
  add(images: Tensor): void {
    const net = this.#net;
    if (net.norms.every(({ stats }) => stats.length === 0)) return;
    const { head, tail } = splitAtGate(net);
    const numbered: Route[] = this.slots.filter((slot) => slot !== "largest");
    const batch = this.#batches++;
    const routes = net.gates.length > 1 ? coveringRoutes(net, new Philox(batch, "recalibration")) : numbered;
    this.#backend.arena.scope(() => {
      const tape = new Tape(this.#backend, false);
      // The published code runs the part before the gate once for each width, and its statistics move each time.
      const exec = this.#exec(tape, 0, this.#published ? routes.length : 1);
      const walk = walkOn<Tensor>(head, exec, startWalk(images, 0));
      for (const route of routes) {
        this.#backend.arena.scope(() => {
          walkOn(tail, this.#exec(new Tape(this.#backend, false), route, 1), { ...walk });
        });
      }
    });
    if (!this.slots.includes("largest")) return;
    this.#backend.arena.scope(() => {
      const exec = this.#exec(new Tape(this.#backend, false), "largest", 1);
      walkOn<Tensor>([...head, ...tail], exec, startWalk(images, "largest"));
    });
  }

  #exec(tape: Tape, route: Route, times: number): TrainExec {
    const momentum = (norm: Norm, entry: number): number => {
      if (this.#published) return 1 - (1 - NORM_MOMENTUM) ** times;
      const key = `${norm.name} ${entry}`;
      const seen = (this.#seen.get(key) ?? 0) + 1;
      this.#seen.set(key, seen);
      return 1 / seen;
    };
    return new TrainExec(tape, { span: this.#span, grads: 0, transposed: null }, { momentum, route });
  }
}
