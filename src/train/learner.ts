/** What a training run holds in the arena: student, gradients, momentum, teacher; and the optimiser's steps over them. */
import type { Backend } from "../backend/backend.js";
import type { Supernet } from "../models/build.js";
import { allocSpan } from "../models/state.js";
import type { Role } from "../nn/parameters.js";
import type { Weights } from "./forward.js";
import { TransposedWeights } from "./transposed.js";

export interface SgdSettings {
  lr: number;
  momentum: number;
  /** Applied to matrices (convolutions, linear) only. */
  weightDecay: number;
}

export class Learner {
  readonly backend: Backend;
  readonly net: Supernet;
  /** Spans in the network's layout; gradients and momentum end before the statistics. */
  readonly student: number;
  readonly teacher: number;
  readonly grads: number;
  readonly momentum: number;
  readonly #transposed: TransposedWeights;
  readonly #nonfinite: number;
  readonly #savedStatistics: number;

  /** `span`: the student's weights, already filled; they become the learner's. */
  constructor(backend: Backend, net: Supernet, span: number) {
    this.backend = backend;
    this.net = net;
    this.student = span;
    const { floats, trainable } = net.layout;
    this.teacher = allocSpan(backend, floats);
    this.grads = allocSpan(backend, trainable);
    this.momentum = allocSpan(backend, trainable);
    this.#transposed = new TransposedWeights(backend, net, span);
    this.#nonfinite = backend.arena.alloc(4, true);
    this.#savedStatistics = allocSpan(backend, floats - trainable);
    this.copyStudentToTeacher();
  }

  get weights(): Weights {
    return { span: this.student, grads: this.grads, transposed: this.#transposed };
  }

  copyStudentToTeacher(): void {
    this.backend.u8.copyWithin(this.teacher, this.student, this.student + this.net.layout.floats * 4);
  }

  /** Call after the student's weights were replaced. */
  refresh(): void {
    this.#transposed.refresh();
  }

  zeroGrads(): void {
    this.backend.call({ op: "fill", x: this.grads, count: this.net.layout.trainable, value: 0 });
  }

  /** The parameter nearest to the loss whose gradient holds NaN or infinity, or null: from there it spread. */
  nonfiniteGradient(): string | null {
    if (this.#countNonfinite(this.grads, this.net.layout.trainable) === 0) return null;
    const bad = this.net.layout.params.findLast(
      (p) => p.role !== "statistic" && this.#countNonfinite(p.in(this.grads), p.floats) > 0,
    );
    return bad?.name ?? "padding";
  }

  #countNonfinite(x: number, count: number): number {
    this.backend.call({ op: "count_nonfinite", x, result: this.#nonfinite, count });
    return this.backend.i32[this.#nonfinite / 4]!;
  }

  /** Shortens the gradient of everything trainable to the Euclidean norm `limit` where it is longer. Reads it once, on this thread. */
  clipGradients(limit: number): void {
    const at = this.grads / 4;
    const grads = this.backend.f32.subarray(at, at + this.net.layout.trainable);
    let squares = 0;
    for (let i = 0; i < grads.length; i++) squares += grads[i]! * grads[i]!;
    const norm = Math.sqrt(squares);
    if (norm <= limit) return;
    for (let i = 0; i < grads.length; i++) grads[i] = grads[i]! * (limit / norm);
  }

  /** One SGD step with Nesterov momentum on the parameters of the given roles. */
  step(roles: readonly Exclude<Role, "statistic">[], settings: SgdSettings): void {
    for (const role of roles) {
      const [from, to] = this.net.layout.range[role];
      this.backend.call({
        op: "sgd",
        p: this.student + from * 4,
        g: this.grads + from * 4,
        m: this.momentum + from * 4,
        count: to - from,
        nesterov: 1,
        lr: settings.lr,
        momentum: settings.momentum,
        decay: role === "plain" || role === "gate_bias" ? 0 : settings.weightDecay,
      });
    }
    this.refresh();
  }

  /** teacher ← decay · teacher + (1 − decay) · student, statistics included. */
  ema(decay: number): void {
    this.backend.call({ op: "ema", t: this.teacher, s: this.student, count: this.net.layout.floats, decay });
  }

  /** Remembers the running statistics, so that a step with NaN can be undone. */
  saveStatistics(): void {
    const [from, to] = this.net.layout.range.statistic;
    this.backend.u8.copyWithin(this.#savedStatistics, this.student + from * 4, this.student + to * 4);
  }

  restoreStatistics(): void {
    const [from, to] = this.net.layout.range.statistic;
    this.backend.u8.copyWithin(this.student + from * 4, this.#savedStatistics, this.#savedStatistics + (to - from) * 4);
  }

  dispose(): void {
    this.#transposed.dispose();
    const { arena } = this.backend;
    for (const at of [this.teacher, this.grads, this.momentum, this.#nonfinite, this.#savedStatistics]) arena.free(at);
  }
}
