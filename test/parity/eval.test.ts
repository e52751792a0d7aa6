/** Every width of the small networks in evaluation mode, by the compiled plan: logits, and the activations on the way. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Plan } from "../../src/engine/plan.js";
import { asFloat32 } from "../../src/io/float32.js";
import type { Supernet } from "../../src/models/build.js";
import {
  Comparison,
  lacks,
  parityBackends,
  readStored,
  readValues,
  stateDict,
  tolerancesOf,
  toNCHW,
  toNHWC,
} from "../support/parity.js";
import {
  floatsAt,
  folders,
  parityImages,
  parityNet,
  parityWeights,
  slotOf,
  spanOf,
  valuesOf,
} from "../support/parity-networks.js";

const all = await parityBackends();

/** The network up to a place of the traces, whose activations, `size` values, take the logits' part. */
function upTo(net: Supernet, place: string, size: number): Supernet {
  const [, stage, block] = /^stage(\d+)\.block(\d+)$/.exec(place) ?? [];
  const name = `blocks.${stage} ${block}`.replace(" 0", ".first_block").replace(/ (\d+)/, (_, j) => {
    return `.residual_blocks.${Number(j) - 1}`;
  });
  const isLast = (step: string) =>
    place === "stem" ? step === "stem" : step === name || step === `${name} (after the gate)`;
  const steps =
    place === "pooled"
      ? [...net.steps.slice(0, -1), { name: place, gate: null, run: pooled }]
      : net.steps.slice(0, net.steps.findIndex((step) => isLast(step.name)) + 1);
  assert.ok(steps.length > 0, `no step is ${place}`);
  return { ...net, steps, spec: { ...net.spec, classes: size } };
}

const pooled: Supernet["steps"][number]["run"] = (exec, walk) => {
  walk.x = exec.features(exec.globalPool(walk.x));
};

describe("evaluation", () => {
  for (const folder of folders) {
    const skip = lacks(`${folder}/eval.safetensors`);
    for (const backend of all) {
      it(`${folder}: logits of every mode`, { skip }, (t) => {
        const net = parityNet(folder);
        const span = parityWeights(backend, net, folder);
        const values = readValues(`${folder}/eval.safetensors`);
        const input = parityImages(folder);
        const n = input.shape[0]!;
        const slots = [...Array.from({ length: net.widths }, (_, k) => k), "largest" as const];
        const plan = new Plan(backend, net, span, { batch: n, slots });
        const comparison = new Comparison(tolerancesOf(folder, "eval"));
        backend.f32.set(toNHWC(input), plan.input / 4);
        for (const [name, want] of values) {
          if (!name.startsWith("logits.")) continue;
          plan.run(n, slotOf(name.slice("logits.".length)));
          comparison.near(name, floatsAt(backend, plan.logits, want.data.length), want.data);
        }
        plan.dispose();
        backend.arena.free(span);
        comparison.report(t, backend);
      });

      it(`${folder}: activations after the stem, each block and the pooling`, { skip }, (t) => {
        const net = parityNet(folder);
        const span = parityWeights(backend, net, folder);
        const values = readValues(`${folder}/eval.safetensors`);
        const image = toNHWC(parityImages(folder)).subarray(0, 3 * net.spec.input.height ** 2);
        const comparison = new Comparison(tolerancesOf(folder, "eval"));
        for (const [name, { shape, data }] of values) {
          const [, mode, place] = /^trace\.(\w+)\.(.+)$/.exec(name) ?? [];
          if (mode === undefined || place === undefined) continue;
          const slots = [slotOf(mode)];
          const plan = new Plan(backend, upTo(net, place, data.length), span, { batch: 1, slots, dynamic: false });
          backend.f32.set(image, plan.input / 4);
          plan.run(1, slots[0]!);
          comparison.near(name, toNCHW(floatsAt(backend, plan.logits, data.length), 1, shape[1]!), data);
          plan.dispose();
        }
        backend.arena.free(span);
        comparison.report(t, backend);
      });
    }
  }

  const checkpoint = "checkpoints/checkpoint-3.safetensors";
  it("checkpoint-3: both state dicts are states of tiny, and no value changes on the way in and out", {
    skip: lacks(checkpoint),
  }, () => {
    const net = parityNet("tiny");
    const stored = readStored(checkpoint);
    const backend = all[0]!;
    for (const prefix of ["state_dict.", "state_dict_ema."]) {
      const state = stateDict(stored, prefix);
      const span = spanOf(backend, net, state);
      const read = valuesOf(backend, net, span);
      backend.arena.free(span);
      assert.equal(read.size, state.size);
      for (const [name, tensor] of state) assert.deepEqual(read.get(name), asFloat32(tensor), name);
    }
  });
});
