import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { madds } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import { quantile, timeInTurns } from "../../src/engine/timing.js";
import { benchmark } from "../../src/evaluate/benchmark.js";
import { measuredPeak } from "../../src/evaluate/peak.js";
import { build } from "../../src/models/build.js";
import { renderBenchmark, timeCells } from "../../src/report/time.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";

const backend = await openBackend({ device: "wasm", threads: 1 });

describe("timing", () => {
  it("lets tasks take turns, warms up, and counts calls of short ones", () => {
    const calls: number[] = [];
    const tasks = [0, 1, 2].map((task) => () => void calls.push(task));
    const rounds: number[] = [];
    const times = timeInTurns(tasks, { rounds: 2, onRound: (done) => rounds.push(done) });
    assert.equal(calls.join(""), "012" + "012" + "012");
    assert.deepEqual(rounds, [1, 2]);
    assert.deepEqual(
      times.map((samples) => samples.length),
      [2, 2, 2],
    );
    const [slow] = timeInTurns([() => waste(3)], { rounds: 3, sampleMs: 2 });
    assert.ok(slow!.every((ms) => ms >= 2.9));
    // How often a task is called goes by its first call, which a busy machine may hold up.
    const counts = Array.from({ length: 10 }, () => {
      let count = 0;
      const [quick] = timeInTurns([() => void waste(0.1, count++)], { rounds: 3, sampleMs: 2 });
      assert.ok(quick!.every((ms) => ms >= 0.09));
      return count;
    });
    assert.ok(Math.max(...counts) > 10, `${counts} calls`);
  });

  it("knows how long a call takes whose start and end a browser's coarse clock cannot tell apart", (t) => {
    let time = 0;
    t.mock.method(performance, "now", () => Math.floor(time));
    const task = () => {
      time += 0.05;
    };
    assert.deepEqual([...timeInTurns([task], { rounds: 2 })[0]!], [0, 0]);
    const [times] = timeInTurns([task], { rounds: 5, sampleMs: 4 });
    assert.ok(
      times!.every((ms) => ms > 0.03 && ms < 0.07),
      `${times}`,
    );
  });

  it("quantiles are interpolated between order statistics", () => {
    assert.deepEqual(
      [0, 0.5, 0.9, 1].map((q) => quantile([3, 1, 2, 4, 5], q)),
      [1, 3, 4.6, 5],
    );
    assert.equal(quantile([7], 0.9), 7);
    assert.equal(quantile([1, 2], 0.5), 1.5);
  });
});

function waste(ms: number, _?: unknown): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe("the records of a plan", () => {
  for (const spec of smallSpecs) {
    it(`run one by one give what run gives: ${spec.description}`, () => {
      const net = build(spec);
      const span = randomSpan(backend, net, 5);
      const plan = new Plan(backend, net, span, { batch: 2, slots: [0, net.widths - 1, "largest"] });
      backend.f32.set(randomImages(spec, 2, 5), plan.input / 4);
      for (const slot of [0, net.widths - 1, "largest"] as const) {
        plan.run(2, slot);
        const read = () => backend.f32.slice(plan.logits / 4, plan.logits / 4 + 2 * spec.classes);
        const expected = read();
        const records = plan.records(slot);
        const last = records[records.length - 1]!;
        assert.equal(last.name, "classifier");
        for (const { run } of records) run(2);
        const y = backend.i32[last.at / 4 + 3]!; // op, x, w, y
        assert.deepEqual(backend.f32.slice(y / 4, y / 4 + expected.length), expected);
      }
      plan.dispose();
      backend.arena.free(span);
    });
  }
});

describe("benchmark", () => {
  const spec = smallSpecs[2]!; // candidates 1, 2, 4 of five widths
  const net = build(spec);
  const span = randomSpan(backend, net, 1);
  const calibration = [
    { lambda: -3, madds: 3, accuracy: 1, shares: [0.5, 0.25, 0.25] },
    { lambda: 1, madds: 2, accuracy: 1, shares: [1, 0, 0] },
  ];

  it("has a row for each width and the gate, whose figures agree with each other", () => {
    const before = backend.arena.inUse;
    const seen: number[] = [];
    const b = benchmark(backend, net, span, {
      rounds: 7,
      model: { calibration },
      layersAt: 3,
      onProgress: (done, total) => seen.push(done, total),
    });
    assert.equal(backend.arena.inUse, before);
    assert.deepEqual(seen.slice(-2), [7, 7]);
    assert.deepEqual(
      b.rows.map(({ kind, width }) => width ?? kind),
      [0, 1, 2, 3, 4, "dynamic"],
    );
    const peak = b.peakGmacs;
    const widest = b.rows[4]!;
    for (const row of b.rows) {
      assert.ok(row.median > 0 && row.p90 >= row.median);
      close(row.gmacs, row.madds / row.median / 1e6);
      close(row.peakShare, row.gmacs / peak);
      close(row.delivered, widest.median / row.median);
      close(row.theoretical, widest.madds / row.madds);
    }
    const routes = [1, 2, 4].map((k) => madds(net, [k], true));
    close(b.rows[5]!.madds, 0.5 * routes[0]! + 0.25 * routes[1]! + 0.25 * routes[2]!);
    const rows = b.layers!.rows;
    assert.equal(b.layers!.route, 3);
    // The gate's head is among the layers, though a fixed width does not run it.
    assert.equal(
      rows.reduce((sum, layer) => sum + layer.madds, 0),
      madds(net, 3) + b.gate!.madds,
    );
    assert.equal(b.gate!.madds, routes[0]! - madds(net, 1));
    assert.ok(rows.every(({ ms }) => ms > 0));
  });

  it("without a gate or a table", () => {
    const fixed = benchmark(backend, net, span, { rounds: 1, batch: 3, dynamic: false });
    assert.deepEqual([fixed.rows.length, fixed.gate, fixed.layers], [5, null, undefined]);
    const routes = [1, 2, 4].map((k) => madds(net, [k], true));
    const even = benchmark(backend, net, span, { rounds: 1 });
    close(even.rows[5]!.madds, (routes[0]! + routes[1]! + routes[2]!) / 3);
  });

  it("refuses numbers that are none of its own", () => {
    for (const options of [{ rounds: 0 }, { batch: 1.5 }, { layersAt: 5 }]) {
      assert.throws(() => benchmark(backend, net, span, options), { code: "ERR_USAGE" });
    }
  });

  it("is a table and a page with one mark a row", () => {
    const b = benchmark(backend, net, span, { rounds: 2 });
    assert.deepEqual(
      timeCells(b).map(([name]) => name),
      ["width 0", "width 1", "width 2", "width 3", "width 4", "dynamic"],
    );
    const html = renderBenchmark("time of <x>", [["Model", "a & b"]], b);
    assert.match(html, /^<!doctype html>/);
    assert.match(html, /time of &lt;x&gt;/);
    assert.doesNotMatch(html, /NaN|undefined|Infinity/);
    assert.equal(html.match(/<g class="mark"/g)!.length, 6);
  });
});

it("the measured peak is above what a network reaches, and leaves no memory behind", () => {
  const before = backend.arena.inUse;
  const peak = measuredPeak(backend);
  assert.equal(backend.arena.inUse, before);
  assert.ok(peak > 1e8 && peak < 1e13, `${peak}`);
});

function close(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 1e-9 * Math.abs(expected), `${actual}, expected ${expected}`);
}
