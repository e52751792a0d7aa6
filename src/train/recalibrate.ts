/**
 * Recalibration: every width's norm statistics measured anew, on the final weights. By default the plain average over the
 * batches, `largest` included, on clean images; the published code keeps its momentum and leaves `largest` out.
 *
 * With several gates the routes mix widths, uniformly (`coveringRoutes`). Group norm has nothing to measure.
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
 * Routes for round `round`, widths² of them: every pair of choices at two gates in a row is taken once, and within `widths` rounds
 * every triple, so that whatever width the residual stream comes in with meets every choice. Each is as likely as any other.
 */
export function coveringRoutes({ widths, gates }: Pick<Supernet, "widths" | "gates">, round: number): number[][] {
  const random = new Philox(Math.floor(round / widths), "recalibration");
  const order = () => {
    const slots = Array.from({ length: widths }, (_, k) => k);
    random.shuffle(slots);
    return slots;
  };
  const routes = Array.from({ length: widths ** 2 }, (_, i) => [i % widths, Math.floor(i / widths)]);
  for (let g = 2; g < gates.length; g++) {
    const orders = Array.from({ length: widths }, order);
    for (const route of routes) route.push(orders[route[g - 1]!]![(route[g - 2]! + round) % widths]!);
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
  /** Batches that each entry of a norm has seen. */
  readonly #seen = new Map<string, number>();
  /** Of `coveringRoutes`. */
  #round = 0;

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

  /** One batch through every width; with several gates through a round of routes, the first through as many as leave no gap. */
  add(images: Tensor): void {
    const { norms, gates } = this.#net;
    if (norms.every(({ stats }) => stats.length === 0)) return;
    if (gates.length < 2) {
      this.#run(
        images,
        this.slots.filter((slot) => slot !== "largest"),
      );
    } else {
      do this.#run(images, coveringRoutes(this.#net, this.#round++));
      while (
        norms.some((norm) => norm.pairs && norm.stats.some((_, entry) => !this.#seen.has(`${norm.name} ${entry}`)))
      );
    }
    if (this.slots.includes("largest")) {
      this.#backend.arena.scope(() => {
        const exec = this.#exec(new Tape(this.#backend, false), "largest", 1);
        walkOn<Tensor>(this.#net.steps, exec, startWalk(images, "largest"));
      });
    }
  }

  #run(images: Tensor, routes: readonly Route[]): void {
    const { head, tail } = splitAtGate(this.#net);
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
  }

  #exec(tape: Tape, route: Route, times: number): TrainExec {
    const momentum = (norm: Norm, entry: number): number => {
      const key = `${norm.name} ${entry}`;
      const seen = (this.#seen.get(key) ?? 0) + 1;
      this.#seen.set(key, seen);
      return this.#published ? 1 - (1 - NORM_MOMENTUM) ** times : 1 / seen;
    };
    return new TrainExec(tape, { span: this.#span, grads: 0, transposed: null }, { momentum, route });
  }
}
