/** The profile of a training: its shares, its multiply-adds, and that there is nothing to pay without it. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { formatProfile } from "../../src/cli/profile.js";
import { layerCosts } from "../../src/cost/madds.js";
import { build, topSlot } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { allocSpan, initState } from "../../src/models/state.js";
import type { TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import type { TrainEvent } from "../../src/train/events.js";
import { Input } from "../../src/train/input.js";
import { Learner } from "../../src/train/learner.js";
import { Profile, type ProfileReport } from "../../src/train/profile.js";
import { Stage1 } from "../../src/train/stage1.js";
import { train } from "../../src/train/train-node.js";
import { smallConfig, writeImages } from "./small-run.js";

const folder = mkdtempSync(join(tmpdir(), "dsnet-profile-"));
after(() => rmSync(folder, { recursive: true }));

const near = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-9, `expected ${b}, got ${a}`);
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** How often something is assigned to `run` of a backend while `work` runs. */
async function wraps(work: () => Promise<unknown>): Promise<number> {
  const backend = await openBackend({ threads: 1 });
  const prototype = Object.getPrototypeOf(backend);
  backend.dispose();
  const original = Object.getOwnPropertyDescriptor(prototype, "run")!;
  let count = 0;
  Object.defineProperty(prototype, "run", {
    configurable: true,
    get: () => original.value,
    set(value) {
      count++;
      Object.defineProperty(this, "run", { value });
    },
  });
  try {
    await work();
  } finally {
    Object.defineProperty(prototype, "run", original);
  }
  return count;
}

describe("the profile of a training", () => {
  it("counts the multiply-adds of a step as the cost table does", async () => {
    const backend = await openBackend({ threads: 1 });
    const net = build(modelSpec("ds_mbnet_32"));
    const batch = 2;
    const span = allocSpan(backend, net.layout.floats);
    initState(backend, net, span, 0);
    const learner = new Learner(backend, net, span);
    const stage = new Stage1(learner, { ...defaultConfig("ds_mbnet_32"), bootstrap: "inplace" }, batch);
    const input = new Input(backend, net, batch);
    const images = input.write(new Float32Array(batch * 32 * 32 * 3).fill(1), new Int32Array(batch));
    const profile = new Profile(backend);
    profile.enter("step");
    const draws = stage.draws(0, batch);
    stage.backward(images, input.labels, 0, draws);
    profile.enter(null);
    const { ops } = profile.report();
    backend.dispose();

    // What lies before the gate runs once for all passes: up to the attention in front of it.
    const gate = `${net.gates[0]!.name}.conv_expand`;
    const cost = (route: Parameters<typeof layerCosts>[1], kind: string) => {
      const layers = layerCosts(net, route, true);
      const first = layers.findIndex(({ name }) => name === gate) + 1;
      assert.ok(first > 0, `no layer ${gate}`);
      const of = (some: typeof layers) => batch * sum(some.filter((l) => l.kind === kind).map((l) => l.madds));
      return { head: of(layers.slice(0, first)), tail: of(layers.slice(first)), stem: batch * layers[0]!.madds };
    };
    const madds = (name: string) => ops.find((op) => op.name === name)!.madds;
    for (const [kind, name] of [
      ["conv", "convolution"],
      ["depthwise", "depthwise"],
    ] as const) {
      const { head, stem } = cost(0, kind);
      const forward = head + sum(draws.passes.map(({ route }) => cost(route, kind).tail));
      assert.equal(madds(`${name}, forward`), forward);
      assert.equal(madds(`${name}, dw`), forward);
      // No image needs a gradient.
      assert.equal(madds(`${name}, dx`), kind === "conv" ? forward - stem : forward);
    }
    const teacher = ["conv", "depthwise"].map((kind) => cost(topSlot(net), kind));
    assert.equal(madds("teacher, forward"), sum(teacher.map(({ head, tail }) => head + tail)));
  });

  it("has shares that add up to the whole, in one event", async () => {
    const events: TrainEvent[] = [];
    const small = smallConfig(writeImages(join(folder, "images")), join(folder, "run"), "probability");
    const config: TrainConfig = { ...small, bootstrap: "inplace" };
    const count = await wraps(() => train(config, { profile: true, onEvent: (event) => events.push(event) }));
    assert.equal(count, 1);
    const profiles = events.filter((event) => event.type === "profile");
    assert.equal(profiles.length, 1);
    const { steps, seconds, parts, ops } = profiles[0]!;
    assert.equal(steps, events.filter((event) => event.type === "step").length);
    near(sum(parts.map(({ share }) => share)), 1);
    near(sum(ops.map(({ share }) => share)), 1);
    near(sum(parts.map((part) => part.seconds)), seconds);
    near(sum(ops.map((op) => op.seconds)), parts.find(({ part }) => part === "step")!.seconds);
    assert.ok([...parts, ...ops].every(({ seconds }) => seconds > 0));
    for (const name of ["optimiser", "teacher, forward", "batch norm, backward"]) {
      assert.ok(
        ops.some((op) => op.name === name),
        `no ${name} in the profile`,
      );
    }
  });

  it("wraps nothing where it was not asked for", async () => {
    const types: string[] = [];
    const config = smallConfig(writeImages(join(folder, "images-2")), join(folder, "run-2"), "probability");
    assert.equal(await wraps(() => train(config, { onEvent: ({ type }) => types.push(type) })), 0);
    assert.ok(types.includes("epoch") && !types.includes("profile"));
  });

  it("is printed as tables", () => {
    const report: ProfileReport = {
      steps: 10,
      seconds: 2,
      parts: [
        { part: "data", seconds: 0.5, share: 0.25 },
        { part: "step", seconds: 1.5, share: 0.75 },
      ],
      ops: [
        { name: "convolution, dx", calls: 100, seconds: 1.2, share: 0.8, madds: 24e9 },
        { name: "loss", calls: 40, seconds: 0.3, share: 0.2, madds: 0 },
      ],
    };
    const text = formatProfile(report);
    assert.match(text, /waiting for data +500 ms +25\.00 %/);
    assert.match(text, /convolution, dx +10 +120\.00 +80\.00 % +2\.40 G +20\.0\n/);
    assert.match(text, /loss +4 +30\.00 +20\.00 %\n/);
    assert.match(formatProfile({ ...report, steps: 0 }), /no step/);
  });
});
