/** Stage II in its masked form: targets, losses and gradients of every variant, and the optimiser's step. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { madds } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import type { Supernet } from "../../src/models/build.js";
import { crossEntropy } from "../../src/ops/loss.js";
import { softmaxBackward } from "../../src/ops/softmax.js";
import { Tape } from "../../src/ops/tape.js";
import type { Tensor } from "../../src/ops/tensor.js";
import type { TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { costLoss, gateCrossEntropy, sgsTarget } from "../../src/train/gate-loss.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { type GateDecision, walkMasked } from "../../src/train/masked.js";
import { Stage2Gumbel } from "../../src/train/stage2-gumbel.js";
import {
  Comparison,
  lacks,
  parityBackends,
  readJson,
  readValues,
  tolerancesOf,
  toNHWC,
  type Values,
} from "../support/parity.js";
import { type Folder, floatsAt, folders, parityImages, parityNet, parityWeights } from "../support/parity-networks.js";

const all = await parityBackends();

interface Variant {
  sgs: "soft" | "clean" | "noisy";
  dw: "stale" | "exact";
  unit: number;
  candidates: number[];
}

interface Losses {
  setup: { smoothing: number; madds_weight: number; variants: Record<string, Variant> };
}

/** The step of the reference's `published.gateG.weight_after`. */
const STEP = { lr: 0.08, momentum: 0.9, weight_decay: 0.01 };

class Run {
  readonly net: Supernet;
  readonly learner: Learner;
  readonly input: Input;
  readonly images: Float32Array;
  readonly labels: Int32Array;
  readonly noise: Float32Array;
  readonly n: number;
  readonly values: Map<string, Values>;
  readonly losses: Losses & Record<string, unknown>;
  readonly variant: Variant;

  constructor(
    readonly backend: Backend,
    readonly folder: Folder,
    readonly name: string,
    readonly comparison: Comparison,
  ) {
    this.values = readValues(`${folder}/stage2.safetensors`);
    this.losses = readJson(`${folder}/stage2.json`);
    this.variant = this.losses.setup.variants[name]!;
    this.net = parityNet(folder, this.variant.candidates);
    this.learner = new Learner(backend, this.net, parityWeights(backend, this.net, folder));
    this.images = toNHWC(parityImages(folder));
    this.labels = Int32Array.from(this.values.get("labels")!.data);
    this.noise = Float32Array.from(this.values.get("noise.gate0")!.data);
    this.n = this.labels.length;
    this.input = new Input(backend, this.net, this.n);
  }

  get count(): number {
    return this.variant.candidates.length;
  }

  /** Results that do not depend on the scores' form or the unit are stored once for all variants but `window`. */
  near(result: string, got: ArrayLike<number>, own = true): void {
    const key = own ? `${this.name}.${result}` : this.name === "window" ? `window.${result}` : result;
    const want = this.values.get(key)?.data ?? [this.losses[key] as number];
    this.comparison.near(key, got, want);
  }

  integers(result: string, got: ArrayLike<number>): void {
    const key = this.name === "window" ? `window.${result}` : result;
    assert.deepEqual(Array.from(got), Array.from(this.values.get(key)!.data), key);
  }

  /** The head's gradient, in the published layout. */
  headGradient(): Float32Array {
    const { weight } = this.net.gates[0]!.head;
    return weight.unpack(floatsAt(this.backend, weight.in(this.learner.grads), weight.floats));
  }

  headWeight(): Float32Array {
    const { weight } = this.net.gates[0]!.head;
    return weight.unpack(floatsAt(this.backend, weight.in(this.learner.student), weight.floats));
  }

  /** Easy samples and SGS targets, judged at the slimmest candidate. */
  targets(plan: Plan): Int32Array {
    const { backend, n, net, variant, labels } = this;
    plan.run(n, variant.candidates[0]!);
    const logits = floatsAt(backend, plan.logits, n * net.spec.classes);
    this.near("smallest_logits", logits, false);
    const easy = Array.from(labels, (label, i) => {
      const row = logits.subarray(i * net.spec.classes, (i + 1) * net.spec.classes);
      return row.indexOf(row.reduce((a, b) => Math.max(a, b))) === label ? 1 : 0;
    });
    this.integers("easy", easy);
    const targets = Int32Array.from(easy, (e) => {
      const target = sgsTarget(Uint8Array.of(e, 0), 0, 2, "try_best")!;
      return target === 0 ? 0 : this.count - 1;
    });
    this.integers("target", targets);
    return targets;
  }

  /** Each term on a tape of its own, for its gradient by the choices and by the head. */
  terms(): void {
    const { backend, net, learner, n, count, variant } = this;
    const plan = new Plan(backend, net, learner.student, { batch: n });
    backend.f32.set(this.images, plan.input / 4);
    this.input.write(this.images, this.labels);
    const targets = this.targets(plan);
    const { smoothing, madds_weight } = this.losses.setup;
    const total = { task: 0, cost: 0, gate: 0 };
    const run = (seed: (tape: Tape, decision: GateDecision, logits: Tensor) => void): Float32Array => {
      learner.zeroGrads();
      backend.arena.scope(() => {
        const tape = new Tape(backend);
        const { logits, decisions } = walkMasked(tape, net, learner.weights, plan, n, [this.noise]);
        seed(tape, decisions[0]!, logits);
      });
      return this.headGradient();
    };
    const task = run((tape, decision, logits) => {
      this.near("logits", floatsAt(backend, logits.at, logits.size), false);
      this.near("gate0.logits", floatsAt(backend, decision.scores.at, n * count), false);
      this.near("gate0.soft", decision.soft, false);
      this.integers("gate0.choice", decision.picked);
      total.task = crossEntropy(tape, logits, { labels: this.input.labels, smoothing });
      tape.backward();
      this.near("gate0.task_grad_by_choice", floatsAt(backend, decision.choice.grad!.at, n * count), false);
    });
    this.near("gate0.task_grad_weight", task, false);
    const cost = run((tape, decision) => {
      const costs = Array.from(decision.picked, (picked) => {
        const choice = variant.candidates.map((_, k) => (k === picked ? 1 : 0));
        return gatedMadds(net, [choice], variant.dw === "stale");
      });
      const spent = costs.map((cost) => cost.madds);
      this.near("madds_per_sample", spent);
      const { value, slope } = costLoss(spent.reduce((a, b) => a + b, 0) / n, variant.unit, null);
      total.cost = value;
      tape.receive(decision.choice, (dx) => {
        backend.f32.set(
          costs.flatMap((cost) => Array.from(cost.gradient[0]!, (g) => (slope * g) / n)),
          dx / 4,
        );
      });
      this.near("gate0.cost_grad_by_choice", floatsAt(backend, decision.choice.grad!.at, n * count));
      tape.backward();
    });
    this.near("gate0.cost_grad_weight", cost);
    const gate = run((tape, decision) => {
      const scores = floatsAt(backend, decision.scores.at, n * count);
      const fed = {
        clean: () => Float64Array.from(scores),
        noisy: () => Float64Array.from(scores, (score, i) => score + this.noise[i]!),
        soft: () => decision.soft,
      };
      const { value, gradient } = gateCrossEntropy(fed[variant.sgs](), targets, count, smoothing);
      total.gate = value;
      if (variant.sgs === "soft") softmaxBackward(decision.soft, gradient, count);
      tape.receive(decision.scores, (dx) => {
        backend.f32.set(gradient, dx / 4);
      });
      tape.backward();
    });
    this.near("gate0.gate_grad_weight", gate);
    const sum = (t: number, c: number, g: number) => t + madds_weight * c + g;
    this.near(
      "gate0.total_grad_weight",
      task.map((g, i) => sum(g, cost[i]!, gate[i]!)),
    );
    for (const [name, value] of Object.entries(total)) this.near(name, [value]);
    this.near("total", [sum(total.task, total.cost, total.gate)]);
    plan.dispose();
  }

  /** The stage's own step, as configured: its losses, and the head's gradient with the terms weighted as given. */
  step(compat: TrainConfig["compat"], task: number, cost: number, sgs: number, lr = 0) {
    const { losses, n } = this;
    const base = defaultConfig("ds_mbnet_32");
    const weights = { task_weight: task, cost_weight: cost, sgs_weight: sgs };
    const config: TrainConfig = {
      ...base,
      compat,
      batch_size: n,
      smoothing: losses.setup.smoothing,
      momentum: STEP.momentum,
      gate: { ...base.gate, ...weights, sgs: "try_best", target_madds: null, weight_decay: STEP.weight_decay },
    };
    const stage = new Stage2Gumbel(this.learner, config, this.input);
    const batch = { images: this.images, labels: this.labels, indices: new Int32Array(n), size: n };
    const result = stage.step(batch, 0, lr, [this.noise]);
    stage.dispose();
    return { ...result, gradient: this.headGradient() };
  }

  /** Losses and gradients of the stage itself, in the form that `compat` stands for. */
  stage(compat: TrainConfig["compat"]): void {
    const { madds_weight } = this.losses.setup;
    const own = this.step(compat, 1, madds_weight, 1);
    this.near("gate0.total_grad_weight", own.gradient);
    this.near("task", [own.task]);
    this.near("cost", [own.cost]);
    this.near("gate", [own.sgs]);
    this.near("total", [own.task + madds_weight * own.cost + own.sgs]);
    this.near("gate0.gate_grad_weight", this.step(compat, 0, 0, 1).gradient);
    this.near("gate0.cost_grad_weight", this.step(compat, 0, 1, 0).gradient);
    this.near("gate0.task_grad_weight", this.step(compat, 1, 0, 0).gradient, false);
  }

  dispose(): void {
    this.input.dispose();
    this.learner.dispose();
    this.backend.arena.free(this.learner.student);
  }
}

describe("stage II", () => {
  for (const folder of folders) {
    const skip = lacks(`${folder}/stage2.safetensors`);
    for (const backend of all) {
      it(`${folder}: every variant`, { skip }, (t) => {
        const comparison = new Comparison(tolerancesOf(folder, "stage2"));
        for (const [name, variant] of Object.entries(readJson<Losses>(`${folder}/stage2.json`).setup.variants)) {
          const run = new Run(backend, folder, name, comparison);
          run.terms();
          if (name === "published") run.stage("published");
          // `compat: "paper"` is `clean`, at whatever candidates.
          if (name === "clean" || name === "window") {
            assert.equal(madds(run.net, [variant.candidates.at(-1)!]), variant.unit);
            run.stage("paper");
          }
          run.dispose();
        }
        comparison.report(t, backend);
      });

      it(`${folder}: the head after a step of the published form`, { skip }, (t) => {
        const comparison = new Comparison(tolerancesOf(folder, "stage2"));
        const run = new Run(backend, folder, "published", comparison);
        const before = run.learner.student;
        const others = floatsAt(backend, before, run.net.layout.range.plain[1]);
        run.step("published", 1, run.losses.setup.madds_weight, 1, STEP.lr);
        run.near("gate0.weight_after", run.headWeight());
        assert.deepEqual(floatsAt(backend, before, run.net.layout.range.plain[1]), others, "nothing else moves");
        run.dispose();
        comparison.report(t, backend);
      });
    }
  }
});
