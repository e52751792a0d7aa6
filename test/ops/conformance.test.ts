/** Every kernel on every backend against the float64 reference, at every width, with its neighbours' bytes watched. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { backends } from "../support/backends.js";
import { caseOps, casesOf, opsOf } from "../support/cases.js";
import { checkCase } from "./harness.js";

const all = await backends();
after(() => {
  for (const { backend } of all) backend.dispose();
});

for (const { name, backend } of all) {
  describe(name, () => {
    for (const op of opsOf(backend)) {
      it(`${op} agrees with the reference and writes nothing else`, () => {
        for (const [index, c] of casesOf(op).entries()) checkCase(backend, c, index);
      });
    }
  });
}

it("each backend runs at least 2,000 cases, and at least ten of every op", () => {
  const count = caseOps.reduce((sum, op) => sum + casesOf(op).length, 0);
  assert.ok(count >= 2000, `${count} cases`);
  for (const op of caseOps) assert.ok(casesOf(op).length >= 10, `${op} has ${casesOf(op).length}`);
});
