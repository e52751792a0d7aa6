/** What several gates ask of the training: routes that mix widths, statistics by pairs of slots, the sum that is activated. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { build, walkNetwork } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { normEntry } from "../../src/nn/layers.js";
import { joint } from "../../src/ops/mix.js";
import { Tape } from "../../src/ops/tape.js";
import { Tensor } from "../../src/ops/tensor.js";
import { Philox } from "../../src/random/philox.js";
import type { TrainConfig } from "../../src/train/config.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { TrainExec } from "../../src/train/forward.js";
import { Learner } from "../../src/train/learner.js";
import { coveringRoutes, Recalibration } from "../../src/train/recalibrate.js";
import { Stage1 } from "../../src/train/stage1.js";
import { temporaryFolder } from "../data/support.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";
import { floatsAt } from "../support/parity-networks.js";
import { finish, killed, remains, smallConfig, writeImages } from "./small-run.js";

const backend = await openBackend({ threads: 1 });
after(() => backend.dispose());

const fourGates = smallSpecs.find(({ description }) => description.includes("four gates"))!;

function tensorOf(values: ArrayLike<number>, n: number, hw: number, c: number): Tensor {
  const t = new Tensor(backend.arena.alloc(n * hw * c * 4), n, hw, 1, c, true);
  backend.f32.set(values, t.at / 4);
  return t;
}

describe("the walk that trains", () => {
  it("sums two widths and activates, forward and backward", () => {
    const random = new Philox(1, "sum");
    const normal = (count: number) => Float32Array.from({ length: count }, () => random.normal());
    for (const [ca, cb] of [
      [5, 3],
      [3, 5],
      [4, 4],
    ] as const) {
      backend.arena.scope(() => {
        const [rows, c] = [6, Math.max(ca, cb)];
        const [a, b, dy] = [normal(rows * ca), normal(rows * cb), normal(rows * c)];
        const tape = new Tape(backend);
        const [ta, tb] = [tensorOf(a, 2, 3, ca), tensorOf(b, 2, 3, cb)];
        const exec = new TrainExec(tape, { span: 0, grads: 0, transposed: null }, { momentum: () => 0, route: 0 });
        const y = exec.add(ta, tb, "relu");
        y.grad = tensorOf(dy, 2, 3, c);
        tape.backward();
        const sum = (row: number, j: number) =>
          Math.fround((j < ca ? a[row * ca + j]! : 0) + (j < cb ? b[row * cb + j]! : 0));
        const cells = (width: number, of: (row: number, j: number) => number) =>
          Float32Array.from({ length: rows * width }, (_, i) => of(Math.floor(i / width), i % width));
        const slope = (row: number, j: number) => dy[row * c + j]! * Number(sum(row, j) > 0);
        assert.deepEqual(
          floatsAt(backend, y.at, y.size),
          cells(c, (row, j) => Math.max(sum(row, j), 0)),
        );
        assert.deepEqual(floatsAt(backend, ta.grad!.at, ta.size), cells(ca, slope));
        assert.deepEqual(floatsAt(backend, tb.grad!.at, tb.size), cells(cb, slope));
      });
    }
  });

  it("joins two choices into one of pairs, with the gradients of both", () => {
    backend.arena.scope(() => {
      const tape = new Tape(backend);
      const [a, b] = [
        [0, 1, 1, 2],
        [1, 0, 0, 3, 2, 5],
      ];
      const [ta, tb] = [tensorOf(a, 2, 1, 2), tensorOf(b, 2, 1, 3)];
      const pairs = joint(tape, ta, tb);
      assert.deepEqual([...floatsAt(backend, pairs.at, 12)], [0, 0, 0, 1, 0, 0, 3, 2, 5, 6, 4, 10]);
      pairs.grad = tensorOf([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 2, 1, 6);
      tape.backward();
      // da[i] = Σ_k dout[i, k] b[k], db[k] = Σ_i dout[i, k] a[i]
      assert.deepEqual([...floatsAt(backend, ta.grad!.at, 4)], [1, 4, 21 + 16 + 45, 30 + 22 + 60]);
      assert.deepEqual([...floatsAt(backend, tb.grad!.at, 6)], [4, 5, 6, 7 + 20, 8 + 22, 9 + 24]);
    });
  });
});

describe("stage I's draws", () => {
  const drawsOf = (model: string, steps: number) => {
    const net = build(modelSpec(model));
    const learner = new Learner(backend, net, randomSpan(backend, net, 0));
    const stage1 = new Stage1(learner, { ...defaultConfig(model), bootstrap: "none" }, 2);
    const draws = Array.from({ length: steps }, (_, step) => stage1.draws(step, 2).passes);
    assert.deepEqual(
      Array.from({ length: steps }, (_, step) => stage1.draws(step, 2).passes),
      draws,
    );
    learner.dispose();
    backend.arena.free(learner.student);
    return draws;
  };

  it("for one gate are single widths, the ones of every release", () => {
    const widths = drawsOf("ds_mbnet_28", 4).map((passes) => passes.map(({ route }) => route));
    assert.deepEqual(widths, [
      [5, 3, 3, 0],
      [5, 1, 4, 0],
      [5, 4, 2, 0],
      [5, 2, 1, 0],
    ]);
  });

  it("for several choose at each gate on its own, among all widths", () => {
    const draws = drawsOf("ds_resnet", 200);
    const counts = Array.from({ length: 7 }, () => [0, 0, 0, 0]);
    for (const passes of draws) {
      assert.deepEqual(
        passes.map(({ name }) => name),
        ["largest", "random", "random", "smallest"],
      );
      assert.deepEqual([passes[0]!.route, passes[3]!.route], [3, 0]);
      for (const { route } of passes.slice(1, 3)) {
        (route as number[]).forEach((slot, gate) => void counts[gate]![slot]!++);
      }
    }
    // 400 draws a gate: 100 each, 8.7 the deviation.
    for (const gate of counts) for (const count of gate) assert.ok(Math.abs(count - 100) < 40, String(gate));
  });
});

describe("a training with several gates", () => {
  for (const norm of ["bn", "gn"] as const) {
    it(`and ${norm} leaves the same files, bit by bit, when it is killed in either stage`, async () => {
      const folder = temporaryFolder();
      const data = writeImages(join(folder, "data"), 44, 8);
      const config = (name: string): TrainConfig => {
        const small = smallConfig(data, join(folder, name), "gumbel");
        const { augment } = defaultConfig("ds_resnet");
        return { ...small, model: "ds_resnet", norm, augment, epochs: 1, gate: { ...small.gate, epochs: 1 } };
      };
      const { events } = await finish(config("undisturbed"));
      const gate = events.findIndex((event) => event.type === "step" && event.stage === "gate");
      assert.ok(gate > 0);
      for (const count of [5, gate - 4]) await killed(config("killed"), count, 5);
      await finish(config("killed"), ["--threads", "2"]);
      assert.deepEqual(remains(config("killed").output), remains(config("undisturbed").output));
    });
  }
});

describe("recalibration with several gates", () => {
  const net = build(fourGates);

  it("sends a batch through every pair of choices at two gates in a row once, within as many as slots every triple", () => {
    const counts = (routes: number[][], gate: number, length: number) => {
      const found = new Map<string, number>();
      for (const route of routes) {
        const key = route.slice(gate, gate + length).join(" ");
        found.set(key, (found.get(key) ?? 0) + 1);
      }
      return found;
    };
    for (let round = 0; round < 30; round += 3) {
      const rounds = [0, 1, 2].map((i) => coveringRoutes(net, round + i));
      for (const routes of rounds) {
        assert.equal(routes.length, 9);
        for (const gate of [0, 1, 2]) assert.equal(counts(routes, gate, 2).size, 9);
      }
      for (const gate of [0, 1]) assert.equal(counts(rounds.flat(), gate, 3).size, 27);
    }
    const all = Array.from({ length: 600 }, (_, round) => coveringRoutes(net, round)).flat();
    // 5400 routes, 81 ways: 66.7 each.
    const ways = counts(all, 0, 4);
    assert.equal(ways.size, 81);
    for (const [way, count] of ways) assert.ok(Math.abs(count - 66.7) < 40, `${way}: ${count}`);
  });

  it("measures the statistics of each width that comes in with each that is chosen: their mean over the routes", () => {
    const span = randomSpan(backend, net, 2);
    const { height, width, channels } = fourGates.input;
    const n = 4;
    const at = backend.arena.alloc(n * height * width * channels * 4, true);
    backend.f32.set(randomImages(fourGates, n, 2), at / 4);
    const images = new Tensor(at, n, height, width, channels, false);
    new Recalibration(backend, net, span, "paper").add(images);

    const last = net.norms.at(-1)!;
    assert.ok(last.pairs);
    assert.equal(last.stats.length, 9);
    const measured = last.stats.map(({ mean }) => floatsAt(backend, mean.in(span), mean.size));
    // One route at a time, statistics taken over as they are. All four gates but the first are in one stage, so the last
    // sees the widest that the two before it chose.
    const means = new Map<number, Float32Array[]>();
    for (let round = 0; means.size < 9; round++) {
      for (const route of coveringRoutes(net, round)) {
        const entry = normEntry(last, { from: Math.max(route[1]!, route[2]!), slot: route[3]! });
        backend.arena.scope(() => {
          const weights = { span, grads: 0, transposed: null };
          const exec = new TrainExec(new Tape(backend, false), weights, { momentum: () => 1, route });
          walkNetwork<Tensor>(net.steps, exec, images, 0);
          const { mean } = last.stats[entry]!;
          means.set(entry, [...(means.get(entry) ?? []), floatsAt(backend, mean.in(span), mean.size)]);
        });
      }
    }
    for (const [entry, list] of means) {
      measured[entry]!.forEach((got, c) => {
        const want = list.reduce((sum, values) => sum + values[c]! / list.length, 0);
        assert.ok(Math.abs(got - want) <= 1e-5 * Math.max(1, Math.abs(want)), `entry ${entry}: ${got}, not ${want}`);
      });
    }
    backend.arena.free(at);
    backend.arena.free(span);
  });
});
