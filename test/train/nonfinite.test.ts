import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readModelFile } from "../../src/io/model-file-node.js";
import { type Supernet, topSlot } from "../../src/models/build.js";
import type { TrainConfig } from "../../src/train/config.js";
import type { Stage, TrainEvent } from "../../src/train/events.js";
import { gateStage } from "../../src/train/gate-stage-node.js";
import { startOf } from "../../src/train/progress.js";
import { RunFolder } from "../../src/train/run-folder-node.js";
import { openSession, type Session } from "../../src/train/session-node.js";
import { supernetStage } from "../../src/train/supernet-stage-node.js";
import { temporaryFolder } from "../data/support.js";
import { dsnet, smallConfig, trainArgs, writeImages } from "./small-run.js";

const folder = temporaryFolder();
const data = writeImages(join(folder, "data"));

/**
 * One epoch of stage I, or of stage II on random weights; `meddle` hears every event and may do to the session what it wants.
 * Returns the warnings.
 */
async function oneEpoch(
  stage: Stage,
  name: string,
  meddle: (event: TrainEvent, session: Session) => void,
  change: Partial<TrainConfig> = {},
): Promise<string[]> {
  const small = smallConfig(data, join(folder, name), "gumbel");
  const config = { ...small, epochs: 1, recovery_interval: 2, ...change, gate: { ...small.gate, epochs: 1 } };
  const run = await RunFolder.open(config.output, config, { resume: false });
  const warnings: string[] = [];
  const session = await openSession(config, run, (event) => {
    if (event.type === "warning") warnings.push(event.message);
    if (event.type !== "phase") meddle(event, session); // the first phase comes before there is a session
  });
  try {
    if (stage === "gate") assert.equal(await gateStage(session, startOf(stage)), 0);
    else assert.ok(await supernetStage(session, startOf(stage)));
  } finally {
    await session.close();
    await run.close();
  }
  return warnings;
}

/** Copies of student (statistics included), teacher and momentum. */
function state({ backend, net, learner }: Session): Uint8Array[] {
  const { floats, trainable } = net.layout;
  const spans = [
    [learner.student, floats],
    [learner.teacher, floats],
    [learner.momentum, trainable],
  ] as const;
  return spans.map(([at, count]) => backend.u8.slice(at, at + count * 4));
}

const isStep = (event: TrainEvent, step: number) => event.type === "step" && event.step === step;

/** The last convolution of the last block. */
const lastPointwise = (net: Supernet) => net.convs.filter(({ name }) => name.endsWith("conv_pw")).at(-1)!;

describe("a gradient that is too long", () => {
  const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

  it("is shortened to the limit, its direction kept; a shorter one keeps its bits", async () => {
    await oneEpoch("supernet", "long", (event, { backend, net, learner }) => {
      if (!isStep(event, 1)) return;
      const grads = () => backend.f32.subarray(learner.grads / 4, learner.grads / 4 + net.layout.trainable);
      const long = grads().slice();
      const length = norm(long);
      learner.clipGradients(length * 1.001);
      assert.deepEqual(grads(), long);
      learner.clipGradients(length / 8);
      assert.ok(Math.abs(norm(grads()) / (length / 8) - 1) < 1e-6);
      grads().forEach((value, i) => void assert.ok(Math.abs(value - long[i]! / 8) <= Math.abs(long[i]!) * 1e-6));
    });
  });

  it("moves the weights by no more than clip_grad allows", async () => {
    const change = { clip_grad: 1e-6, weight_decay: 0, momentum: 0 };
    let before = new Float32Array();
    let moved = Number.NaN;
    await oneEpoch(
      "supernet",
      "clipped",
      (event, { backend, net, learner }) => {
        const weights = () => backend.f32.slice(learner.student / 4, learner.student / 4 + net.layout.trainable);
        if (isStep(event, 1)) before = weights();
        if (event.type === "step" && event.step === 2) moved = norm(weights().map((w, i) => w - before[i]!)) / event.lr;
      },
      change,
    );
    assert.ok(moved > 0 && moved <= 1.1e-6, String(moved));
  });
});

describe("a step with NaN", () => {
  it("in a weight is skipped with its number and the layer, and leaves no trace", async () => {
    let before: Uint8Array[] = [];
    let whole = 0;
    let place = "";
    const seen: number[] = [];
    const warnings = await oneEpoch("supernet", "weight", (event, session) => {
      const { backend, net, learner } = session;
      const layer = lastPointwise(net);
      const at = layer.weight.in(learner.student) / 4;
      if (event.type === "step") seen.push(event.step);
      if (isStep(event, 2)) {
        before = state(session);
        whole = backend.f32[at]!;
        backend.f32[at] = Number.NaN;
        place = `${layer.name} at width ${topSlot(net)}`;
      } else if (event.type === "warning") {
        backend.f32[at] = whole;
        assert.deepEqual(state(session), before);
      } else if (isStep(event, 4)) {
        assert.notDeepEqual(state(session), before, "it goes on");
      }
    });
    const message = `step 3: NaN or infinity in the loss of the largest width, first in ${place}; the step is skipped`;
    assert.deepEqual(warnings, [message]);
    assert.deepEqual(
      seen,
      Array.from({ length: seen.length }, (_, i) => i + 1),
    );
  });

  it("in the gradients alone is skipped too, and a layer named from where it spread", async () => {
    let before: Uint8Array[] = [];
    let reached = "";
    const warnings = await oneEpoch("supernet", "gradient", (event, session) => {
      const { backend, net, learner } = session;
      if (isStep(event, 2)) {
        before = state(session);
        // What only the way back reads, the transposed weights: NaN begins at the layers in front of this one.
        const layer = lastPointwise(net);
        backend.f32[learner.weights.transposed!.at(layer) / 4] = Number.NaN;
        reached = layer.name.replace("conv_pw", "");
      } else if (event.type === "warning") {
        learner.refresh();
        assert.deepEqual(state(session), before);
      }
    });
    assert.equal(warnings.length, 1);
    const [, parameter] = /^step 3: NaN or infinity in the gradient of (.*); the step is skipped$/.exec(warnings[0]!)!;
    assert.ok(parameter!.startsWith(reached) && !parameter!.includes("conv_pw"), parameter);
  });

  it("of the gate is skipped as well", async () => {
    let before: Uint8Array[] = [];
    const warnings = await oneEpoch("gate", "gate", (event, session) => {
      const { backend, net, learner } = session;
      const at = net.gates[0]!.head.weight.in(learner.student) / 4;
      if (isStep(event, 1)) {
        before = state(session);
        backend.f32[at] = Number.NaN;
      } else if (event.type === "warning") {
        backend.f32[at] = new Float32Array(before[0]!.buffer)[at - learner.student / 4]!;
        assert.deepEqual(state(session), before);
      } else if (event.type === "epoch") {
        assert.ok(Object.values(event.loss).every(Number.isFinite));
      }
    });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /^step 2: NaN or infinity in the [a-z]+ loss; the step is skipped$/);
  });

  it("three times in a row ends the run, and the checkpoint before them is kept", async () => {
    const path = join(folder, "three");
    await assert.rejects(
      oneEpoch("supernet", "three", (event, session) => {
        if (!isStep(event, 3)) return;
        session.backend.f32[session.net.classifier.weight.in(session.learner.student) / 4] = Number.POSITIVE_INFINITY;
      }),
      {
        code: "ERR_DIVERGED",
        message:
          /^step 6: NaN or infinity in .*classifier.*, 3 steps in a row; training stopped, the last checkpoint is kept, .*three\/last\.safetensors\. Lower lr, .*clip_grad in a new run\.$/,
      },
    );
    const { training, tensors } = await readModelFile(join(path, "last.safetensors"));
    assert.deepEqual([training!.step, training!.bad], [2, 0]);
    for (const [name, { data }] of tensors) {
      const values = new Float32Array(data.slice().buffer);
      assert.ok(values.every(Number.isFinite), name);
    }
  });

  it("ends the command with exit code 1 and advice", async () => {
    const config = { ...smallConfig(data, join(folder, "cli"), "probability"), lr: 1e30 };
    const { code, stderr } = await dsnet(trainArgs(config));
    assert.equal(code, 1);
    assert.match(stderr, /warning: step \d+: NaN or infinity in [\s\S]*error\[ERR_DIVERGED\]: step \d+: .*Lower lr/);
  });
});
