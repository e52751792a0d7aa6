import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { evaluate } from "../../src/evaluate/evaluate.js";
import { formatEvaluation } from "../../src/evaluate/table.js";
import { bits, build, route } from "./build.js";

const example = () => {
  const p = build([
    { madds: 12.34e6, correct: bits("1111100000") },
    { madds: 24.68e6, correct: bits("1111111110") },
  ]);
  p.largest = { madds: 49.36e6, correct: bits("1111111111") };
  p.dynamic = route(p, [0, 0, 0, 0, 0, 1, 1, 1, 1, 0], 1e5);
  return p;
};

describe("formatEvaluation", () => {
  it("prints every row under aligned headings, percentages of the widest and never of largest", () => {
    const lines = formatEvaluation(evaluate(example())).split("\n");
    assert.deepEqual(lines.slice(0, 5), [
      "what                MAdds (M)  % of widest  top-1 %  note",
      "width 0                 12.34         50.0    50.00",
      "width 1                 24.68        100.0    90.00",
      "largest                 49.36        200.0   100.00  wide early stages too",
      "dynamic                 17.38         70.4    90.00  by the gate, its cost included",
    ]);
    assert.match(lines[5]!, /^static envelope +17\.38 +70\.4 +66\.32 {2}59 % width 0, 41 % width 1, at random$/);
    assert.match(lines[6]!, /^random routing +17\.28 /);
    assert.match(lines[7]!, /^confidence cascade +n\/a +n\/a +n\/a {2}n\/a: no table of cascades/);
    assert.match(lines[8]!, /^oracle /);
    assert.equal(lines[9], "");
  });

  it("states the findings with intervals and a verdict", () => {
    const text = formatEvaluation(evaluate(example()));
    assert.match(text, /Dynamic minus the static envelope at the same mean MAdds: \+23\.68 points \[.*\], /);
    assert.match(text, /Dynamic minus width 1, the widest: \+0\.00 points \[-.*\], no difference shown\./);
    assert.match(text, /recovers 100\.0 % of the gap/);
    assert.match(text, /Routes: width 0 60\.0 %, width 1 40\.0 %\./);
    assert.doesNotMatch(text, /COLLAPSED/);
  });

  it("opens the findings with the alarm when the gate is a constant", () => {
    const p = example();
    p.dynamic = route(p, new Array(10).fill(1));
    assert.match(formatEvaluation(evaluate(p)), /\n\nCOLLAPSED: width 1 takes 100\.0 % of the images/);
  });

  it("says so when no gate was run", () => {
    const { dynamic: _, ...p } = example();
    assert.match(formatEvaluation(evaluate(p)), /10 validation images; no gate was run\.\n$/);
  });
});
