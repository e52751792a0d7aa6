/** The published network at full size, its weights made by the formula: every mode, the gate, and one step of stage I. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { madds } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import { float32Tensor } from "../../src/io/float32.js";
import type { StoredTensor } from "../../src/io/safetensors.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { readState } from "../../src/models/state.js";
import type { Slot } from "../../src/nn/width.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Stage1 } from "../../src/train/stage1.js";
import {
  Comparison,
  images,
  lacks,
  parityBackends,
  readJson,
  readStored,
  readValues,
  signed,
  stateDict,
  tolerancesOf,
  toNHWC,
  uniform,
} from "../support/parity.js";
import { floatsAt, paritySpec, slotOf, spanOf, valuesOf } from "../support/parity-networks.js";

const all = await parityBackends();

interface Spec {
  network: Parameters<typeof paritySpec>[0];
  image_size: number;
  batch: number;
  image_seed: number;
  image_cell: number;
  parameters: number;
  trainable: number;
  tensors: Record<string, { shape: number[]; scale: number; shift: number; seed: number }>;
}

interface Results {
  widths: Record<string, { first16: number[]; sum: number; l2: number; argmax: number }[]>;
  dynamic: { choice: number[]; madds: number[]; madds_stale: number[]; gate_head_madds: number };
}

interface Train {
  gradients: Record<string, [norm: number, check: number]>;
  running_norms: Record<string, number>;
  setup: {
    image_size: number;
    batch: number;
    image_seed: number;
    labels: number[];
    widths: number[];
    teacher_widths: number[];
    teacher_weight_seed: number;
    smoothing: number;
  };
}

interface Measured {
  train: Record<"losses" | "gradient norms" | "gradient checks", { max_rel: number; max_rel_to_norm: number }>;
}

const spec = readJson<Spec>("full/spec.json");

/** All weights and statistics; the weights with one seed for all, where it is given. */
function state(seed?: number): Map<string, StoredTensor> {
  const tensors = stateDict(readStored("full/bn_stats.safetensors"));
  for (const [name, { shape, scale, shift, seed: own }] of Object.entries(spec.tensors)) {
    const count = shape.reduce((a, b) => a * b, 1);
    tensors.set(name, float32Tensor(shape, uniform(name, seed ?? own, count, scale, shift)));
  }
  return tensors;
}

const norm = (values: ArrayLike<number>) => Math.sqrt(Array.from(values, (v) => v * v).reduce((a, b) => a + b, 0));

describe("ds_mbnet", () => {
  const skip = lacks("full/bn_stats.safetensors", "full/tolerances.json");
  const student = skip ? null! : state();

  it("of the registry is the published network, at any candidates", () => {
    const table = (s: ModelSpec) =>
      build({ ...s, candidates: [0, 1, 2, 3] }).layout.params.map((p) => [p.name, p.shape]);
    assert.deepEqual(table(modelSpec("ds_mbnet")), table(paritySpec(spec.network, spec.image_size)));
    const trained = build(paritySpec(spec.network, spec.image_size)).layout.params.filter(
      (p) => p.role !== "statistic",
    );
    assert.equal(trained.length, spec.parameters);
    assert.equal(
      trained.reduce((sum, p) => sum + p.size, 0),
      spec.trainable,
    );
  });

  for (const backend of all) {
    it("logits of every mode, and the gate's choices", { skip }, (t) => {
      const net = build(paritySpec(spec.network, spec.image_size));
      const span = spanOf(backend, net, student);
      const wanted = readJson<Results>("full/results.json");
      const values = readValues("full/results.safetensors");
      const slots: Slot[] = [...Array.from({ length: net.widths }, (_, k) => k), "largest"];
      // WASM takes a third of the images.
      const n = backend.name === "native" ? spec.batch : 1;
      const input = toNHWC(images(spec.image_seed, spec.batch, 3, spec.image_size, spec.image_cell));
      const plan = new Plan(backend, net, span, { batch: n, slots });
      backend.f32.set(input.subarray(0, (input.length / spec.batch) * n), plan.input / 4);
      const { classes } = net.spec;
      const comparison = new Comparison(tolerancesOf("full", "results"));
      const near = (name: string) => {
        const logits = floatsAt(backend, plan.logits, n * classes);
        comparison.near(name, logits, values.get(name)!.data.subarray(0, n * classes));
        return Array.from({ length: n }, (_, i) => logits.subarray(i * classes, (i + 1) * classes));
      };
      for (const [mode, rows] of Object.entries(wanted.widths)) {
        plan.run(n, slotOf(mode));
        near(`logits.${mode}`).forEach((logits, i) => {
          const { first16, l2, argmax } = rows[i]!;
          comparison.near(`logits.${mode} (first 16)`, logits.subarray(0, 16), first16, `logits.${mode}`);
          comparison.near(`logits.${mode} (norm)`, [norm(logits)], [l2], `logits.${mode}`);
          assert.equal(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))), argmax);
        });
      }
      const { choice, madds: cost, madds_stale: stale } = wanted.dynamic;
      assert.deepEqual(
        plan.runDynamic(n),
        choice.slice(0, n).map((k) => [k]),
      );
      near("dynamic.logits");
      comparison.near(
        "dynamic.gate_logits",
        plan.gateScores(n),
        values.get("dynamic.gate_logits")!.data.subarray(0, n * 4),
      );
      choice.forEach((k, i) => {
        const oneHot = [0, 1, 2, 3].map((c) => (c === k ? 1 : 0));
        assert.equal(madds(net, [k], true), cost[i]);
        assert.equal(gatedMadds(net, [oneHot]).madds, cost[i]);
        assert.ok(Math.abs(gatedMadds(net, [oneHot], true).madds - stale[i]!) < 1e-6 * stale[i]!);
      });
      plan.dispose();
      backend.arena.free(span);
      comparison.report(t, backend);
    });
  }

  // One backend is enough for what takes seconds; the small networks take both.
  for (const backend of all.slice(0, 1)) {
    it("one step of stage I", { skip }, (t) => {
      trainStep(backend, student).report(t, backend);
    });
  }
});

function trainStep(backend: Backend, student: ReadonlyMap<string, StoredTensor>): Comparison {
  const comparison = new Comparison({});
  const want = readJson<Train & Record<string, number>>("full/train.json");
  const { setup } = want;
  const net = build(paritySpec(spec.network, setup.image_size));
  const learner = new Learner(backend, net, spanOf(backend, net, student));
  readState(backend, net, learner.teacher, state(setup.teacher_weight_seed));
  const input = new Input(backend, net, setup.batch);
  const pixels = toNHWC(images(setup.image_seed, setup.batch, 3, setup.image_size));
  const batch = input.write(pixels, Int32Array.from(setup.labels));
  const config = { seed: 0, smoothing: setup.smoothing, drop: 0, bootstrap: "ensemble", random_widths: 2 } as const;
  const stage1 = new Stage1(learner, { ...config, model_ema_decay: 0 }, setup.batch);
  const losses = stage1.backward(batch, input.labels, 0, {
    passes: [
      { name: "largest", route: "largest" },
      ...setup.widths.map((route) => ({ name: "random", route }) as const),
      { name: "smallest", route: 0 },
    ],
    teacher: setup.teacher_widths,
    dropout: null,
  });
  const relative = (name: string, got: number | undefined, wanted: number) =>
    comparison.within(name, [got!], [wanted], 1e-5, "losses");
  relative("loss.largest", losses.largest, want["loss.largest"]!);
  relative("loss.random", losses.random, (want["loss.random0"]! + want["loss.random1"]!) / 2);
  relative("loss.smallest", losses.smallest, want["loss.smallest"]!);
  const { train } = readJson<Measured>("full/tolerances.json");
  const gradients = valuesOf(backend, net, learner.grads, false);
  const { seed } = spec.tensors["conv_stem.weight"]!;
  for (const [name, [l2, check]] of Object.entries(want.gradients)) {
    const gradient = gradients.get(name)!;
    comparison.within(name, [norm(gradient)], [l2], 10 * train["gradient norms"].max_rel, "gradient norms");
    const dot = signed(`check.${name}`, seed, gradient.length).reduce((sum, s, i) => sum + s * gradient[i]!, 0);
    // Relative to the gradient's norm: the second value is nothing but the scale.
    const limit = 10 * train["gradient checks"].max_rel_to_norm;
    comparison.within(name, [dot, l2], [check, l2], limit, "gradient checks");
  }
  const statistics = valuesOf(backend, net, learner.student);
  for (const [name, l2] of Object.entries(want.running_norms)) {
    comparison.within(name, [norm(statistics.get(name)!)], [l2], 1.1e-5, "norms of the statistics");
  }
  stage1.dispose();
  input.dispose();
  learner.dispose();
  backend.arena.free(learner.student);
  return comparison;
}
