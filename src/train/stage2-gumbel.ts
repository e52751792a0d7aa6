/**
 * Stage II, the paper's form: straight-through Gumbel-softmax over the candidates, task loss through the masked network,
 * MAdds loss and SGS. Works with several gates. `compat: "published"` follows the authors' code (PUBLISHED_CODE 12, 14, 19).
 */
import { gatedMadds } from "../cost/gated.js";
import { madds } from "../cost/madds.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import { UsageError } from "../errors.js";
import { rightRows } from "../evaluate/top1.js";
import { layersOf, type Supernet, splitAtGate } from "../models/build.js";
import { channelsAt } from "../nn/width.js";
import { crossEntropy } from "../ops/loss.js";
import { GROUP_CHANNELS } from "../ops/norm.js";
import { softmaxBackward } from "../ops/softmax.js";
import { Tape } from "../ops/tape.js";
import type { Tensor } from "../ops/tensor.js";
import { Philox } from "../random/philox.js";
import type { TrainConfig } from "./config.js";
import { costLoss, gateCrossEntropy, sgsTarget } from "./gate-loss.js";
import type { Input } from "./input.js";
import type { Learner } from "./learner.js";
import { type GateDecision, walkMasked } from "./masked.js";

/** The published code divides MAdds by this. */
const PUBLISHED_UNIT = 1e9;

export interface GumbelStep {
  task: number;
  cost: number;
  sgs: number;
  /** Of this batch, at the noisy choices. */
  accuracy: number;
  madds: number;
  /** What held NaN or infinity, so that the heads were left as they are; null: nothing. */
  nonfinite: string | null;
}

export class Stage2Gumbel {
  readonly #learner: Learner;
  readonly #config: TrainConfig;
  readonly #input: Input;
  readonly #plan: Plan;

  /** The plan's weights are the student's, whose backbone is frozen: it is compiled once. */
  constructor(learner: Learner, config: TrainConfig, input: Input) {
    this.#learner = learner;
    this.#config = config;
    this.#input = input;
    const { backend, net, student } = learner;
    const candidates = net.gates[0]!.candidates;
    checkGumbel(net);
    const slots = [candidates[0]!, candidates[candidates.length - 1]!];
    this.#plan = new Plan(backend, net, student, { batch: config.batch_size, slots, dynamic: false });
  }

  /** Gumbel noise of step `step` for a batch of n: by gate, [image][candidate]. */
  noise(step: number, n: number): Float32Array[] {
    const { gates } = this.#learner.net;
    return gates.map(({ candidates, index }) => gumbel(n * candidates.length, this.#config.seed, step, index));
  }

  /** One optimiser step on the heads. `step` counts over the whole stage and keys the noise. */
  step(batch: Batch, step: number, lr: number, noise = this.noise(step, batch.size)): GumbelStep {
    const { backend, net, weights } = this.#learner;
    const config = this.#config;
    const plan = this.#plan;
    const n = batch.size;
    this.#learner.zeroGrads();
    const result = backend.arena.scope(() => {
      this.#input.write(batch.images, batch.labels);
      backend.f32.set(batch.images, plan.input / 4);
      const easy = this.#easy(batch);
      const tape = new Tape(backend);
      const { logits, decisions } = walkMasked(tape, net, weights, plan, n, noise);
      const right = rightRows(backend.f32.subarray(logits.at / 4, logits.at / 4 + logits.size), batch.labels);
      const task = crossEntropy(tape, logits, { labels: this.#input.labels, smoothing: config.smoothing });
      this.#scaleGrad(logits, config.gate.task_weight);
      const cost = this.#cost(tape, decisions, n);
      const sgs = this.#sgs(tape, decisions, easy, n);
      tape.backward();
      return { task, cost: cost.loss, sgs, accuracy: right.reduce((a, b) => a + b, 0) / n, madds: cost.mean };
    });
    const loss = (["task", "cost", "sgs"] as const).find((name) => !Number.isFinite(result[name]));
    const parameter = this.#learner.nonfiniteGradient();
    if (loss !== undefined) return { ...result, nonfinite: `the ${loss} loss` };
    if (parameter !== null) return { ...result, nonfinite: `the gradient of ${parameter}` };
    const decay = config.gate.weight_decay;
    this.#learner.step(["gate", "gate_bias"], { lr, momentum: config.momentum, weightDecay: decay });
    return { ...result, nonfinite: null };
  }

  /** SGS target of each image: 0, the last candidate, or −1 for none. Judged by the frozen network, without noise. */
  #easy(batch: Batch): Int32Array {
    const { net } = this.#learner;
    const { candidates } = net.gates[0]!;
    const last = candidates.length - 1;
    const ends = [candidates[0]!, candidates[last]!];
    const correct = ends.map((slot) => {
      this.#plan.run(batch.size, slot);
      const logits = this.#plan.readLogits(batch.size);
      return rightRows(logits, batch.labels);
    });
    return Int32Array.from(batch.labels, (_, i) => {
      const pair = Uint8Array.of(correct[0]![i]!, correct[1]![i]!);
      const target = sgsTarget(pair, 0, 2, this.#config.gate.sgs);
      return target === null ? -1 : target === 0 ? 0 : last;
    });
  }

  /** Adds the cost's gradient to the choices. */
  #cost(tape: Tape, decisions: readonly GateDecision[], n: number): { loss: number; mean: number } {
    const { net, backend } = this.#learner;
    const { gate, compat } = this.#config;
    const published = compat === "published";
    const count = (d: GateDecision) => d.gate.candidates.length;
    const costs = Array.from({ length: n }, (_, i) =>
      gatedMadds(
        net,
        decisions.map((d) => Float64Array.from({ length: count(d) }, (_, k) => (k === d.picked[i] ? 1 : 0))),
        published,
      ),
    );
    const mean = costs.reduce((sum, c) => sum + c.madds, 0) / n;
    const widest = decisions.map((d) => d.gate.candidates[count(d) - 1]!);
    const unit = published ? PUBLISHED_UNIT : madds(net, widest);
    const { value, slope } = costLoss(mean, unit, published ? null : gate.target_madds);
    decisions.forEach((d, g) => {
      tape.receive(d.choice, (dx) => {
        for (let i = 0; i < n; i++) {
          for (let k = 0; k < count(d); k++) {
            backend.f32[dx / 4 + i * count(d) + k] = (gate.cost_weight * slope * costs[i]!.gradient[g]![k]!) / n;
          }
        }
      });
    });
    return { loss: value, mean };
  }

  /**
   * Label-smoothed cross-entropy against the targets, mean over images and gates. Scores are the gate's own; the published
   * code feeds the noisy softmax through a second softmax.
   */
  #sgs(tape: Tape, decisions: readonly GateDecision[], targets: Int32Array, n: number): number {
    const { backend } = this.#learner;
    const { gate, smoothing, compat } = this.#config;
    if (gate.sgs === "none") return 0;
    let loss = 0;
    for (const d of decisions) {
      const count = d.gate.candidates.length;
      const scores = Float64Array.from(backend.f32.subarray(d.scores.at / 4, d.scores.at / 4 + n * count));
      const published = compat === "published";
      const { value, gradient } = gateCrossEntropy(published ? d.soft : scores, targets, count, smoothing);
      loss += value / decisions.length;
      // In the published form the gradient is that of the softmax, which passes it on to the scores.
      if (published) softmaxBackward(d.soft, gradient, count);
      const weight = gate.sgs_weight / decisions.length;
      tape.receive(d.scores, (dx) => {
        for (let i = 0; i < n * count; i++) backend.f32[dx / 4 + i] = weight * gradient[i]!;
      });
    }
    return loss;
  }

  #scaleGrad(t: Tensor, factor: number): void {
    if (factor === 1 || t.grad === null) return;
    const { f32 } = this.#learner.backend;
    for (let i = 0; i < t.size; i++) f32[t.grad.at / 4 + i] = f32[t.grad.at / 4 + i]! * factor;
  }

  dispose(): void {
    this.#plan.dispose();
  }
}

/**
 * Throws UsageError where masking is not slicing: zeros count in a group norm whose last group a candidate would cut.
 */
export function checkGumbel(net: Supernet): void {
  const slots = net.gates[0]!.candidates.slice(0, -1);
  for (const { name, kind, widths } of layersOf(splitAtGate(net).tail).norms) {
    const cut = slots.find((slot) => channelsAt(widths, slot) % GROUP_CHANNELS !== 0);
    if (kind !== "gn" || widths.length === 1 || cut === undefined) continue;
    throw new UsageError(
      `gate.method "gumbel" with group norm needs widths that are multiples of ${GROUP_CHANNELS}; ` +
        `${name} has ${channelsAt(widths, cut)} channels at width ${cut}. Use batch norm, or "probability"`,
    );
  }
}

/** −log(−log u), keyed by step and gate. */
function gumbel(count: number, seed: number, step: number, gate: number): Float32Array {
  const random = new Philox(seed, step, gate, "gumbel");
  return Float32Array.from({ length: count }, () => -Math.log(-Math.log(random.float() * (1 - 2 ** -23) + 2 ** -24)));
}
