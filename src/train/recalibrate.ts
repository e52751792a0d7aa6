/**
 * Recalibration: every width's norm statistics measured anew, on the final weights. By default the plain average over the
 * batches, `largest` included, on clean images; the published code keeps its momentum and leaves `largest` out.
 */
import type { Backend } from "../backend/backend.js";
import { type Supernet, slotsOf, splitAtGate, walkOn } from "../models/build.js";
import { NORM_MOMENTUM, type Norm } from "../nn/layers.js";
import type { Slot } from "../nn/width.js";
import { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import type { TrainConfig } from "./config.js";
import { TrainExec } from "./forward.js";

/** The widths that a recalibration measures. */
export function calibratedSlots(net: Supernet, compat: TrainConfig["compat"]): Slot[] {
  return slotsOf(net).filter((slot) => compat === "paper" || slot !== "largest");
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

  /** Forgets the statistics in `span`; feed it batches with `add`. */
  constructor(backend: Backend, net: Supernet, span: number, compat: TrainConfig["compat"]) {
    this.#backend = backend;
    this.#net = net;
    this.#span = span;
    this.#published = compat === "published";
    this.slots = calibratedSlots(net, compat);
    for (const norm of net.norms) {
      norm.stats.forEach((stats, slot) => {
        backend.f32.fill(0, stats.mean.in(span) / 4, stats.mean.in(span) / 4 + norm.widths[slot]!);
        backend.f32.fill(1, stats.var.in(span) / 4, stats.var.in(span) / 4 + norm.widths[slot]!);
      });
    }
  }

  /** One batch through every width. */
  add(images: Tensor): void {
    const { head, tail } = splitAtGate(this.#net);
    const numbered = this.slots.filter((slot) => slot !== "largest");
    this.#backend.arena.scope(() => {
      const tape = new Tape(this.#backend, false);
      // The published code runs the part before the gate once for each width, and its statistics move each time.
      const walk = walkOn<Tensor>(head, this.#exec(tape, 0, this.#published ? numbered.length : 1), {
        x: images,
        slot: 0,
        input: null,
        reduced: null,
      });
      for (const slot of numbered) {
        this.#backend.arena.scope(() => {
          const from = head.length > 0 ? walk.slot : slot;
          walkOn(tail, this.#exec(new Tape(this.#backend, false), slot, 1), { ...walk, slot: from });
        });
      }
    });
    if (!this.slots.includes("largest")) return;
    this.#backend.arena.scope(() => {
      const exec = this.#exec(new Tape(this.#backend, false), "largest", 1);
      walkOn<Tensor>([...head, ...tail], exec, { x: images, slot: "largest", input: null, reduced: null });
    });
  }

  #exec(tape: Tape, slot: Slot, times: number): TrainExec {
    const momentum = (norm: Norm, entry: number): number => {
      if (this.#published) return 1 - (1 - NORM_MOMENTUM) ** times;
      const key = `${norm.name} ${entry}`;
      const seen = (this.#seen.get(key) ?? 0) + 1;
      this.#seen.set(key, seen);
      return 1 / seen;
    };
    return new TrainExec(tape, { span: this.#span, grads: 0, transposed: null }, { momentum, slot });
  }
}
