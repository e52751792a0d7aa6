/**
 * Stage I: the supernet. Each step trains the widest, some random and the slimmest sub-network on one batch (sandwich rule),
 * gradients added up; the narrower ones learn from labels, or from the EMA teacher (in-place bootstrapping). PAPER: DS-Net, 3.2.
 */
import { Plan } from "../engine/plan.js";
import { splitAtGate, topSlot, walkOn } from "../models/build.js";
import { startWalk, type Walk } from "../nn/blocks.js";
import { NORM_MOMENTUM } from "../nn/layers.js";
import { type Route, type Slot, startOf, widest } from "../nn/width.js";
import { crossEntropy, type Target } from "../ops/loss.js";
import { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import { Philox } from "../random/philox.js";
import type { TrainConfig } from "./config.js";
import { TrainExec } from "./forward.js";
import type { Learner } from "./learner.js";

export type Stage1Config = Pick<
  TrainConfig,
  "seed" | "smoothing" | "drop" | "bootstrap" | "random_widths" | "model_ema_decay"
>;

export interface Pass {
  name: "largest" | "random" | "smallest";
  route: Route;
}

/** What chance decides in one step. */
export interface Stage1Draws {
  /** Widest first, slimmest last. */
  passes: readonly Pass[];
  /** Routes that the teacher's ensemble adds to its widest. */
  teacher: readonly Route[];
  /** Dropout's factor at `largest`, [image][feature]; null: none. */
  dropout: Float32Array | null;
}

export interface Stage1Losses {
  largest: number;
  /** Mean over the random widths; absent where there are none. */
  random?: number;
  smallest?: number;
}

export class Stage1 {
  readonly #learner: Learner;
  readonly #config: Stage1Config;
  /** The teacher at every slot it may be asked for. */
  readonly #teacher: Plan | null;

  constructor(learner: Learner, config: Stage1Config, batch: number) {
    this.#learner = learner;
    this.#config = config;
    const { backend, net, teacher } = learner;
    const top = topSlot(net);
    const numbered = Array.from({ length: net.widths }, (_, k) => k);
    const slots: Slot[] = config.bootstrap === "ensemble" ? [top, ...numbered] : [top];
    const taught = config.bootstrap === "inplace" || config.bootstrap === "ensemble";
    this.#teacher = taught ? new Plan(backend, net, teacher, { batch, slots, dynamic: false }) : null;
  }

  /** The draws of step `step` for a batch of n: the same for a seed, whatever came before. The teacher runs on the student's routes. */
  draws(step: number, n: number): Stage1Draws {
    const passes = this.#passes(step);
    const teacher = passes.filter((pass) => pass.name === "random").map((pass) => pass.route);
    return { passes, teacher, dropout: this.#dropout(step, n) };
  }

  #passes(step: number): Pass[] {
    const { net } = this.#learner;
    const passes: Pass[] = [{ name: "largest", route: topSlot(net) }];
    if (net.widths === 1) return passes;
    const random = new Philox(this.#config.seed, step, "widths");
    for (let i = 0; i < this.#config.random_widths; i++) {
      const route = this.#randomRoute(random);
      if (route !== null) passes.push({ name: "random", route });
    }
    passes.push({ name: "smallest", route: 0 });
    return passes;
  }

  /**
   * Several gates choose independently, each among all widths. For a single one it is neither the slimmest, which has its own
   * pass, nor the widest where that is `largest` already; null where no width is left.
   */
  #randomRoute(random: Philox): Route | null {
    const { gates, widths, largestIsNumbered } = this.#learner.net;
    if (gates.length > 1) return gates.map(() => random.int(widths));
    const highest = largestIsNumbered ? widths - 2 : widths - 1;
    return highest < 1 ? null : 1 + random.int(highest);
  }

  /**
   * Adds the gradients of all passes to the learner's (zeroed here). `step` counts from 0 over the whole stage and keys
   * the draws. Weights are not touched, running statistics are.
   */
  backward(images: Tensor, labels: number, step: number, draws = this.draws(step, images.n)): Stage1Losses {
    const { backend } = this.#learner;
    const { passes } = draws;
    this.#learner.zeroGrads();
    return backend.arena.scope(() => {
      const targets = this.#targets(images, labels, draws);
      const losses = new Map<Pass, number>();
      // Passes that begin at one slot share everything before the first gate: run it once, forward and backward.
      for (const start of new Set(passes.map((pass) => startOf(pass.route)))) {
        const group = passes.filter((pass) => startOf(pass.route) === start);
        backend.arena.scope(() => this.#group(images, start, group, targets, losses, draws.dropout));
      }
      const sums = { largest: 0, random: 0, smallest: 0 };
      for (const [pass, loss] of losses) sums[pass.name] += loss;
      const count = (name: Pass["name"]) => passes.filter((pass) => pass.name === name).length;
      const result: Stage1Losses = { largest: sums.largest };
      if (count("random") > 0) result.random = sums.random / count("random");
      if (count("smallest") > 0) result.smallest = sums.smallest;
      return result;
    });
  }

  #group(
    images: Tensor,
    start: Slot,
    group: readonly Pass[],
    targets: (pass: Pass) => Target,
    losses: Map<Pass, number>,
    factors: Float32Array | null,
  ): void {
    const { backend, net, weights } = this.#learner;
    const { head, tail } = splitAtGate(net);
    const headTape = new Tape(backend);
    // The shared part sees the batch once but stands for every pass: its statistics move as if it had seen it each time.
    const momentum = 1 - (1 - NORM_MOMENTUM) ** group.length;
    const headExec = new TrainExec(headTape, weights, { momentum: () => momentum, route: start });
    const walk = walkOn<Tensor>(head, headExec, startWalk(images, start));
    if (head.length > 0) for (const t of crossing(walk)) t.grad = zeros(headTape, t);
    for (const pass of group) {
      backend.arena.scope(() => {
        const tape = new Tape(backend);
        const dropout = pass.name === "largest" && factors !== null ? rows(tape, images.n, factors) : null;
        const exec = new TrainExec(tape, weights, { momentum: () => NORM_MOMENTUM, route: pass.route, dropout });
        const logits = walkOn(tail, exec, { ...walk }).x;
        losses.set(pass, crossEntropy(tape, logits, targets(pass)));
        if (pass.name === "largest" && this.#config.bootstrap === "distill") this.#rememberOnline(logits);
        tape.backward();
      });
    }
    headTape.backward();
  }

  /** What each pass learns: labels for the widest, the teacher's probabilities for the others. */
  #targets(images: Tensor, labels: number, draws: Stage1Draws): (pass: Pass) => Target {
    const { backend, net } = this.#learner;
    const { bootstrap, smoothing } = this.#config;
    const hard: Target = { labels, smoothing };
    if (bootstrap === "none" || net.widths === 1) return () => hard;
    const probs = backend.arena.alloc(images.n * net.spec.classes * 4);
    if (bootstrap === "distill") {
      this.#online = probs;
      return (pass) => (pass.name === "largest" ? hard : { probs });
    }
    this.#teach(images, topSlot(net), probs);
    if (bootstrap === "inplace") return (pass) => (pass.name === "largest" ? hard : { probs });
    const ensemble = backend.arena.alloc(images.n * net.spec.classes * 4);
    this.#ensemble(images, probs, draws.teacher, ensemble);
    return (pass) => (pass.name === "largest" ? hard : { probs: pass.name === "random" ? probs : ensemble });
  }

  /** Where in-place distillation keeps the online widest network's probabilities of this step. */
  #online = 0;

  #rememberOnline(logits: Tensor): void {
    this.#softmax(logits.at, this.#online, logits.n);
  }

  /** The teacher's probabilities on a route. */
  #teach(images: Tensor, route: Route, probs: number): void {
    const teacher = this.#teacher!;
    const { u8 } = this.#learner.backend;
    teacher.refresh();
    u8.copyWithin(teacher.input, images.at, images.at + images.size * 4);
    teacher.run(images.n, route);
    this.#softmax(teacher.logits, probs, images.n);
  }

  /** Mean of the teacher's probabilities at the widest and on this step's random routes. */
  #ensemble(images: Tensor, top: number, routes: readonly Route[], out: number): void {
    const { backend, net } = this.#learner;
    const count = images.n * net.spec.classes;
    const sum = Float64Array.from(backend.f32.subarray(top / 4, top / 4 + count));
    for (const route of routes) {
      this.#teach(images, route, out);
      const f32 = backend.f32;
      for (let i = 0; i < count; i++) sum[i] = sum[i]! + f32[out / 4 + i]!;
    }
    for (let i = 0; i < count; i++) backend.f32[out / 4 + i] = sum[i]! / (routes.length + 1);
  }

  #softmax(logits: number, probs: number, n: number): void {
    this.#learner.backend.call({ op: "softmax", x: logits, y: probs, n, c: this.#learner.net.spec.classes });
  }

  #dropout(step: number, n: number): Float32Array | null {
    const { drop, seed } = this.#config;
    if (drop <= 0) return null;
    const random = new Philox(seed, step, "dropout");
    const kept = 1 / (1 - drop);
    const features = widest(this.#learner.net.classifier.cin);
    return Float32Array.from({ length: n * features }, () => (random.float() < drop ? 0 : kept));
  }

  dispose(): void {
    this.#teacher?.dispose();
  }
}

/** The tensors that a walk takes from before the gate to behind it. */
function crossing(walk: Walk<Tensor>): Set<Tensor> {
  return new Set([walk.x, walk.input, walk.reduced].filter((t): t is Tensor => t?.needsGrad === true));
}

/** (n, 1, 1, C) from n·C values. */
function rows(tape: Tape, n: number, values: Float32Array): Tensor {
  const t = tape.tensor(n, 1, 1, values.length / n, false);
  tape.backend.f32.set(values, t.at / 4);
  return t;
}

/** A gradient of zero, to which every pass adds its share. */
function zeros(tape: Tape, t: Tensor): Tensor {
  const zero = tape.tensor(t.n, t.h, t.w, t.c, false);
  tape.backend.call({ op: "fill", x: zero.at, count: zero.size, value: 0 });
  return zero;
}
