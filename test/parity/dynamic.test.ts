/** The gate's choices and what follows from them: by the routed plan, and by the masked walk of stage II. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { madds } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import { Tape } from "../../src/ops/tape.js";
import { Learner } from "../../src/train/learner.js";
import { walkMasked } from "../../src/train/masked.js";
import { Comparison, lacks, parityBackends, readValues, tolerancesOf, toNHWC, type Values } from "../support/parity.js";
import { type Folder, floatsAt, parityImages, parityNet, parityWeights } from "../support/parity-networks.js";

const all = await parityBackends();

/** Everything about one candidate set, argmax (no noise) or noisy. */
function check(backend: Backend, folder: Folder, set: string, kind: string, comparison: Comparison): void {
  const candidates = set.slice(1).split("_").map(Number);
  const net = parityNet(folder, candidates);
  const learner = new Learner(backend, net, parityWeights(backend, net, folder));
  const values = readValues(`${folder}/dynamic.safetensors`);
  const want = (name: string): Values => values.get(`${set}.${kind}.${name}`)!;
  const near = (name: string, got: ArrayLike<number>) =>
    comparison.near(`${set}.${kind}.${name}`, got, want(name).data);
  const input = parityImages(folder);
  const n = input.shape[0]!;
  const images = toNHWC(input);
  const noise =
    kind === "noisy" ? Float32Array.from(values.get("noise.gate0")!.data) : new Float32Array(n * candidates.length);
  const choice = [...want("gate0.choice").data];

  // One image at a time: noise is a bias on the scores.
  const single = new Plan(backend, net, learner.student, { batch: 1 });
  const size = images.length / n;
  const logits: number[] = [];
  for (let i = 0; i < n; i++) {
    backend.f32.set(images.subarray(i * size, (i + 1) * size), single.input / 4);
    single.setBias(0, [...noise.subarray(i * candidates.length, (i + 1) * candidates.length)]);
    assert.deepEqual(single.runDynamic(1), [[candidates[choice[i]!]]]);
    logits.push(...floatsAt(backend, single.logits, net.spec.classes));
  }
  near("logits", logits);
  single.dispose();

  const plan = new Plan(backend, net, learner.student, { batch: n });
  backend.f32.set(images, plan.input / 4);
  near("gate0.logits", plan.gateScores(n));
  if (kind === "argmax") {
    const routes = plan.runDynamic(n);
    assert.deepEqual(
      routes,
      choice.map((c) => [candidates[c]]),
    );
    near("logits", floatsAt(backend, plan.logits, n * net.spec.classes));
    assert.deepEqual(
      routes.map((route) => madds(net, route, true)),
      [...want("madds").data],
    );
  }
  backend.arena.scope(() => {
    const masked = walkMasked(new Tape(backend), net, learner.weights, plan, n, [noise]);
    const [gate] = masked.decisions;
    near("logits", floatsAt(backend, masked.logits.at, n * net.spec.classes));
    near("gate0.logits", floatsAt(backend, gate!.scores.at, n * candidates.length));
    near("gate0.soft", gate!.soft);
    assert.deepEqual([...gate!.picked], choice);
  });
  plan.dispose();
  learner.dispose();
  backend.arena.free(learner.student);

  const costs = (stale: boolean) =>
    choice.map((c) => gatedMadds(net, [candidates.map((_, k) => (k === c ? 1 : 0))], stale).madds);
  assert.deepEqual(costs(false), [...want("madds").data]);
  near("madds_stale", costs(true));
}

describe("dynamic width", () => {
  const cases: [Folder, string][] = [
    ["tiny", "c0_1_2_3"],
    ["tiny", "c2_3_4_5"],
    ["tiny_ir", "c0_1_2_3"],
  ];
  for (const [folder, set] of cases) {
    const skip = lacks(`${folder}/dynamic.safetensors`);
    for (const backend of all) {
      it(`${folder}, ${set}: scores, choices, logits and MAdds, with noise and without`, { skip }, (t) => {
        const comparison = new Comparison(tolerancesOf(folder, "dynamic"));
        for (const kind of ["argmax", "noisy"]) check(backend, folder, set, kind, comparison);
        comparison.report(t, backend);
      });
    }
  }
});
