/** The sum on the tape: what it gives to whichever of its addends ask for a gradient, whatever came to them before. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { openBackend } from "../../src/backend/open.js";
import { type Activation, actCode } from "../../src/ops/activation.js";
import { add } from "../../src/ops/add.js";
import { Tape } from "../../src/ops/tape.js";
import type { Tensor } from "../../src/ops/tensor.js";
import { draw, randomOf } from "../support/case.js";
import { addDx } from "../support/reference.js";

const backend = await openBackend({ device: "wasm", threads: 1 });
after(() => backend.dispose());

const [N, H, W] = [2, 3, 2];
const ROWS = N * H * W;
const random = randomOf("add on a tape");

const values = ({ at, size }: Tensor): Float32Array => backend.f32.slice(at / 4, at / 4 + size);

function write(tensor: Tensor): Float32Array {
  const drawn = draw(random, tensor.size);
  backend.f32.set(drawn, tensor.at / 4);
  return drawn;
}

/** A gradient that another consumer has left. */
function given(tape: Tape, t: Tensor): Float32Array {
  t.grad = tape.tensor(t.n, t.h, t.w, t.c, false);
  return write(t.grad);
}

function assertClose(t: Tensor, want: Float64Array, what: string): void {
  assert.ok(t.grad !== null, `${what} has no gradient`);
  for (const [at, got] of values(t.grad).entries()) {
    assert.ok(Math.abs(got - want[at]!) < 1e-5, `${what}[${at}] is ${got}, should be ${want[at]}`);
  }
}

const sum = (a: Float64Array, b: ArrayLike<number> | null) => (b === null ? a : a.map((v, at) => v + b[at]!));

describe("the gradient of a sum", () => {
  for (const act of ["none", "relu", "swish", "sigmoid"] satisfies Activation[]) {
    for (const [ca, cb] of [
      [5, 5],
      [20, 7],
      [7, 20],
    ] as const) {
      it(`${act}, ${ca} and ${cb} channels: to both, to either alone, on top of what is there`, () => {
        for (const [learnsA, learnsB] of [
          [true, true],
          [true, false],
          [false, true],
        ] as const) {
          for (const before of ["", "a", "b", "ab"]) {
            backend.arena.scope(() => {
              const tape = new Tape(backend);
              const [a, b] = [tape.tensor(N, H, W, ca, learnsA), tape.tensor(N, H, W, cb, learnsB)];
              const [va, vb] = [write(a), write(b)];
              const y = add(tape, a, b, act);
              const dy = given(tape, y);
              const [ga, gb] = [
                learnsA && before.includes("a") ? given(tape, a) : null,
                learnsB && before.includes("b") ? given(tape, b) : null,
              ];
              tape.backward();
              const { da, db } = addDx(ROWS, va, ca, vb, cb, dy, actCode[act]);
              const what = `learning ${learnsA} ${learnsB}, before "${before}":`;
              if (learnsA) assertClose(a, sum(da.value, ga), `${what} da`);
              else assert.equal(a.grad, null);
              if (learnsB) assertClose(b, sum(db.value, gb), `${what} db`);
              else assert.equal(b.grad, null);
            });
          }
        }
      });
    }

    it(`${act}: a tensor added to itself gets both`, () => {
      for (const before of [false, true]) {
        backend.arena.scope(() => {
          const tape = new Tape(backend);
          const x = tape.tensor(N, H, W, 6, true);
          const vx = write(x);
          const dy = given(tape, add(tape, x, x, act));
          const gx = before ? given(tape, x) : null;
          tape.backward();
          const { da, db } = addDx(ROWS, vx, 6, vx, 6, dy, actCode[act]);
          assertClose(x, sum(sum(da.value, db.value), gx), "dx");
        });
      }
    });
  }

  it("of what learns nothing is none", () => {
    backend.arena.scope(() => {
      const tape = new Tape(backend);
      const [a, b] = [tape.tensor(N, H, W, 3, false), tape.tensor(N, H, W, 3, false)];
      write(a);
      write(b);
      assert.equal(add(tape, a, b, "swish").needsGrad, false);
    });
  });
});
