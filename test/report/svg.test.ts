import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { epochTicks, niceTicks, overlap, placeLabel, spread, tickLabels } from "../../src/report/svg.js";

describe("ticks", () => {
  it("cover the data at equal steps of 1, 2 or 5", () => {
    assert.deepEqual(niceTicks(0.3, 2.2), [0, 0.5, 1, 1.5, 2, 2.5]);
    assert.deepEqual(tickLabels(niceTicks(0.3, 2.2)), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
    assert.deepEqual(niceTicks(133, 565, 5), [100, 200, 300, 400, 500, 600]);
    const range = fc.tuple(
      fc.double({ min: -1e3, max: 1e3, noNaN: true }),
      fc.double({ min: 1e-4, max: 1e9, noNaN: true }),
    );
    fc.assert(
      fc.property(range, ([min, span]) => {
        const ticks = niceTicks(min, min + span);
        const slack = 1e-6 * (ticks[1]! - ticks[0]!);
        assert.ok(ticks.length >= 2 && ticks.length <= 8, `${ticks}`);
        assert.ok(ticks[0]! <= min + slack && ticks.at(-1)! >= min + span - slack, `${ticks}`);
        assert.equal(new Set(tickLabels(ticks)).size, ticks.length);
      }),
      { seed: 1 },
    );
  });

  it("exist for constant data, and are whole numbers for epochs", () => {
    assert.ok(niceTicks(0, 0).length >= 2);
    assert.ok(niceTicks(7, 7).length >= 2);
    const rounded = niceTicks(0.3, 0.1 + 0.2);
    assert.ok(rounded[0]! < rounded[1]!);
    for (const [first, last] of [
      [0, 0],
      [1, 1],
      [1, 2],
      [1, 300],
    ] as const) {
      const ticks = epochTicks(first, last);
      assert.ok(ticks.every(Number.isInteger) && ticks.length >= 2, `${ticks}`);
    }
  });
});

describe("labels", () => {
  it("along an axis keep their order, a gap and the bounds, and stay put when there is room", () => {
    assert.deepEqual(spread([10, 50, 90], 15, 0, 100), [10, 50, 90]);
    assert.deepEqual(spread([50, 50], 10, 0, 100), [45, 55]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 200 }), { minLength: 1, maxLength: 14 }), (wishes) => {
        const placed = spread(wishes, 15, 0, 200);
        const order = wishes.map((_, i) => i).sort((a, b) => wishes[a]! - wishes[b]!);
        order.forEach((i, k) => {
          assert.ok(placed[i]! >= -1e-9 && placed[i]! <= 200 + 1e-9);
          if (k > 0) assert.ok(placed[i]! - placed[order[k - 1]!]! >= 15 - 1e-9);
        });
      }),
      { seed: 2 },
    );
  });

  it("beside marks never cover an obstacle or leave the plot", () => {
    const bounds = { x: 0, y: 0, width: 300, height: 200 };
    const at = fc.tuple(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 200 }));
    fc.assert(
      fc.property(fc.array(at, { minLength: 1, maxLength: 20 }), (places) => {
        const obstacles = places.map(([x, y]) => ({ x: x - 5, y: y - 5, width: 10, height: 10 }));
        for (const [x, y] of places) {
          const box = placeLabel("width 13", x, y, obstacles, bounds);
          if (box === null) continue;
          assert.ok(!obstacles.some((other) => overlap(box, other)));
          assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= 300 && box.y + box.height <= 200);
          obstacles.push(box);
        }
      }),
      { seed: 3 },
    );
    assert.equal(placeLabel("taken", 50, 50, [{ x: -99, y: -99, width: 999, height: 999 }], bounds), null);
  });
});
