/** Two steps of stage I with the reference's draws: teacher, losses, gradients, optimiser, statistics, EMA. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { Plan } from "../../src/engine/plan.js";
import { walkNetwork } from "../../src/models/build.js";
import { allocSpan, readState } from "../../src/models/state.js";
import { type Route, type Slot, startOf } from "../../src/nn/width.js";
import { crossEntropy, type Target } from "../../src/ops/loss.js";
import { Tape } from "../../src/ops/tape.js";
import type { Tensor } from "../../src/ops/tensor.js";
import { TrainExec } from "../../src/train/forward.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Stage1, type Stage1Draws } from "../../src/train/stage1.js";
import {
  Comparison,
  lacks,
  parityBackends,
  readJson,
  readStored,
  readValues,
  stateDict,
  tolerancesOf,
  toNHWC,
  type Values,
} from "../support/parity.js";
import {
  type Folder,
  floatsAt,
  folders,
  parityImages,
  parityNet,
  parityWeights,
  valuesOf,
} from "../support/parity-networks.js";

const all = await parityBackends();

interface StepSetup {
  widths: number[];
  teacher_widths: number[];
  dropout: boolean;
}

interface Setup {
  step1: StepSetup;
  step2: StepSetup;
  smoothing: number;
  lr: number;
  momentum: number;
  weight_decay: number;
  ema_decay: number;
}

class Run {
  readonly net;
  readonly learner: Learner;
  readonly stage1: Stage1;
  readonly input: Input;
  readonly images: Tensor;
  readonly values: Map<string, Values>;
  readonly losses: Record<string, number>;
  readonly setup: Setup;
  readonly n: number;

  constructor(
    readonly backend: Backend,
    readonly folder: Folder,
    readonly comparison: Comparison,
  ) {
    this.net = parityNet(folder);
    this.learner = new Learner(backend, this.net, parityWeights(backend, this.net, folder));
    readState(
      backend,
      this.net,
      this.learner.teacher,
      stateDict(readStored(`${folder}/stage1.safetensors`), "teacher."),
    );
    this.values = readValues(`${folder}/stage1.safetensors`);
    const { setup, ...losses } = readJson<{ setup: Setup } & Record<string, number>>(`${folder}/stage1.json`);
    this.setup = setup;
    this.losses = losses;
    const input = parityImages(folder);
    this.n = input.shape[0]!;
    this.input = new Input(backend, this.net, this.n);
    this.images = this.input.write(toNHWC(input), Int32Array.from(this.values.get("labels")!.data));
    const config = { seed: 0, smoothing: setup.smoothing, drop: 0, bootstrap: "ensemble", random_widths: 2 } as const;
    this.stage1 = new Stage1(this.learner, { ...config, model_ema_decay: setup.ema_decay }, this.n);
  }

  draws(step: "step1" | "step2"): Stage1Draws {
    const { widths, teacher_widths, dropout } = this.setup[step];
    return {
      passes: [
        { name: "largest", route: "largest" },
        ...widths.map((route) => ({ name: "random", route }) as const),
        { name: "smallest", route: 0 },
      ],
      teacher: teacher_widths,
      dropout: dropout ? Float32Array.from(this.values.get("dropout")!.data) : null,
    };
  }

  near(name: string, got: ArrayLike<number>): void {
    this.comparison.near(name, got, this.values.get(name)!.data);
  }

  /** Every tensor of the file that begins with `prefix` is among `got`. */
  nearAll(prefix: string, got: ReadonlyMap<string, Float32Array>): void {
    const names = [...this.values.keys()].filter((name) => name.startsWith(prefix));
    assert.ok(names.length > 0, prefix);
    for (const name of names) {
      if (!name.endsWith(".num_batches_tracked")) this.near(name, got.get(name.slice(prefix.length))!);
    }
  }

  state(span: number, statistics = true): Map<string, Float32Array> {
    return valuesOf(this.backend, this.net, span, statistics);
  }

  /** The teacher's probabilities at a slot. */
  teach(slot: Slot): Float32Array {
    const { backend, net, learner, images, n } = this;
    const plan = new Plan(backend, net, learner.teacher, { batch: n, slots: [slot], dynamic: false });
    backend.u8.copyWithin(plan.input, images.at, images.at + images.size * 4);
    plan.run(n, slot);
    backend.call({ op: "softmax", x: plan.logits, y: plan.logits, n, c: net.spec.classes });
    const probs = floatsAt(backend, plan.logits, n * net.spec.classes);
    plan.dispose();
    return probs;
  }

  /** Logits and loss of one pass on its own, on the batch's statistics; the running ones stay. */
  pass(route: Route, target: Target, dropout: Float32Array | null): { logits: Float32Array; loss: number } {
    const { backend, net, learner, images, n } = this;
    return backend.arena.scope(() => {
      const tape = new Tape(backend);
      const factor = tape.tensor(n, 1, 1, dropout === null ? 1 : dropout.length / n, false);
      if (dropout !== null) backend.f32.set(dropout, factor.at / 4);
      const options = { momentum: () => 0, route, dropout: dropout === null ? null : factor };
      const exec = new TrainExec(tape, learner.weights, options);
      const logits = walkNetwork<Tensor>(net.steps, exec, images, startOf(route));
      return { logits: floatsAt(backend, logits.at, logits.size), loss: crossEntropy(tape, logits, target) };
    });
  }

  /** Logits and losses of every pass of a step, one by one. */
  passes(step: "step1" | "step2"): void {
    const { backend, n, net, setup } = this;
    const { passes, teacher, dropout } = this.draws(step);
    const probs = (["largest", ...teacher] as Slot[]).map((slot) => this.teach(slot));
    const mean = probs[0]!.map((_, i) => probs.reduce((sum, p) => sum + p[i]!, 0) / probs.length);
    if (step === "step1") {
      probs.forEach((p, i) => {
        this.near(`${step}.teacher_probs.${i}`, p);
      });
      this.near(`${step}.teacher_probs.mean`, mean);
    }
    const soft = (values: Float32Array): Target => {
      const at = backend.arena.alloc(n * net.spec.classes * 4);
      backend.f32.set(values, at / 4);
      return { probs: at };
    };
    backend.arena.scope(() => {
      const targets = {
        largest: { labels: this.input.labels, smoothing: setup.smoothing },
        random: soft(probs[0]!),
        smallest: soft(mean),
      };
      let random = 0;
      for (const { name, route } of passes) {
        const { logits, loss } = this.pass(route, targets[name], name === "largest" ? dropout : null);
        const label = name === "random" ? `random${random++}` : name;
        this.near(`${step}.logits.${label}`, logits);
        this.comparison.near(`${step}.loss.${label}`, [loss], [this.losses[`${step}.loss.${label}`]!]);
      }
    });
  }

  /** What the step itself reports and does, optimiser and teacher included. */
  step(step: "step1" | "step2"): void {
    const { learner, setup } = this;
    const got = this.stage1.backward(this.images, this.input.labels, 0, this.draws(step));
    const want = (name: string) => this.losses[`${step}.loss.${name}`]!;
    const key = `${step}.loss.largest`;
    this.comparison.near(`${step}.loss (largest)`, [got.largest], [want("largest")], key);
    this.comparison.near(`${step}.loss (random)`, [got.random!], [(want("random0") + want("random1")) / 2], key);
    this.comparison.near(`${step}.loss (smallest)`, [got.smallest!], [want("smallest")], key);
    if (step === "step1") {
      const gradients = this.state(learner.grads, false);
      this.nearAll("step1.grad.", gradients);
      const head = gradients.get(this.net.gates[0]!.head.weight.name)!;
      assert.ok(head.every((g) => g === 0));
      this.plainStep();
    }
    learner.step(["decayed", "plain"], { lr: setup.lr, momentum: setup.momentum, weightDecay: setup.weight_decay });
    this.nearAll(`${step}.after.`, this.state(learner.student));
    learner.ema(setup.ema_decay);
    this.nearAll(`${step}.ema.`, this.state(learner.teacher));
  }

  /** The first pass alone; its mark on the statistics is undone. */
  largestAlone(): void {
    const { learner } = this;
    const { passes } = this.draws("step1");
    learner.saveStatistics();
    this.stage1.backward(this.images, this.input.labels, 0, { passes: passes.slice(0, 1), teacher: [], dropout: null });
    learner.restoreStatistics();
    this.nearAll("step1.grad_largest.", this.state(learner.grads, false));
  }

  /** The optimiser's kernel without Nesterov, decaying every parameter, on copies. */
  plainStep(): void {
    const { backend, learner, net, setup } = this;
    const { floats, trainable, range } = net.layout;
    const copy = allocSpan(backend, floats);
    const buffer = allocSpan(backend, trainable);
    backend.u8.copyWithin(copy, learner.student, learner.student + floats * 4);
    const { lr, momentum, weight_decay: decay } = setup;
    const rest = { m: buffer, count: range.plain[1], nesterov: 0, lr, momentum, decay };
    backend.call({ op: "sgd", p: copy, g: learner.grads, ...rest });
    this.nearAll("step1.plain.", this.state(copy));
    backend.arena.free(copy);
    backend.arena.free(buffer);
  }

  dispose(): void {
    this.stage1.dispose();
    this.input.dispose();
    this.learner.dispose();
    this.backend.arena.free(this.learner.student);
  }
}

describe("stage I", () => {
  for (const folder of folders) {
    const skip = lacks(`${folder}/stage1.safetensors`);
    for (const backend of all) {
      it(`${folder}: two steps`, { skip }, (t) => {
        const before = backend.arena.inUse;
        const comparison = new Comparison(tolerancesOf(folder, "stage1"));
        const run = new Run(backend, folder, comparison);
        run.passes("step1");
        run.largestAlone();
        run.step("step1");
        run.passes("step2");
        run.step("step2");
        run.dispose();
        comparison.report(t, backend);
        assert.ok(backend.arena.inUse - before < 2 ** 20, "what a step took is given back, but for scratch");
      });
    }
  }
});
