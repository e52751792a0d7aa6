import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { openBackend } from "../../src/backend/open.js";
import { encode, RECORD_BYTES } from "../../src/backend/records.js";
import { BackendError, MemoryError, UsageError } from "../../src/errors.js";
import { backends } from "../support/backends.js";

const all = await backends();

/** Allocates and writes floats. */
function put(backend: Backend, values: ArrayLike<number>): number {
  const offset = backend.arena.alloc(values.length * 4);
  backend.f32.set(values, offset / 4);
  return offset;
}

const floats = (backend: Backend, offset: number, count: number) => backend.f32.slice(offset / 4, offset / 4 + count);

/** Numbers of no pattern, the same every time. */
const noise = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233) * 1.7);

/** A 3x3 convolution over many chunks, with scratch; the bits of its output. */
function bigConvolution(backend: Backend): Float32Array {
  const [n, size, cin, cout] = [3, 17, 20, 40];
  return backend.arena.scope(() => {
    const x = put(backend, noise(n * size * size * cin, 1));
    const w = put(backend, noise(Math.ceil(cout / 16) * 9 * cin * 16, 2));
    const y = backend.arena.alloc(n * size * size * cout * 4);
    const image = { n, h: size, width: size, cin, cout, kernel: 3, stride: 1, pad: 1, oh: size, ow: size };
    backend.call({ op: "conv", x, w, y, ...image, cin_max: cin, act: 2 });
    return floats(backend, y, n * size * size * cout);
  });
}

for (const { name, backend } of all) {
  describe(name, () => {
    after(() => backend.dispose());

    it("says what runs", () => {
      assert.equal(backend.build, `${backend.name}-${backend.isa}`);
      assert.ok(backend.notes[0]!.startsWith(backend.build));
    });

    it("fills exactly the floats it is told to", () => {
      backend.arena.scope(() => {
        const count = 1000003;
        const x = backend.arena.alloc((count + 1) * 4);
        backend.f32[x / 4 + count] = 5;
        backend.call({ op: "fill", x, count, value: 1.5 });
        assert.ok(floats(backend, x, count).every((value) => value === 1.5));
        assert.equal(backend.f32[x / 4 + count], 5);
      });
    });

    it("computes an affine op with activation", () => {
      backend.arena.scope(() => {
        const x = put(backend, [1, -2, 3, 4, 5, -6]);
        const scale = put(backend, [2, 1, -1]);
        const shift = put(backend, [0.5, 0, 1]);
        const y = backend.arena.alloc(24);
        backend.call({ op: "affine", x, y, scale, shift, n: 1, hw: 2, c: 3, act: 1 });
        assert.deepEqual([...floats(backend, y, 6)], [2.5, 0, 0, 8.5, 5, 7]);
      });
    });

    it("runs a list of records up to its end, with the batch size of the call", () => {
      backend.arena.scope(() => {
        const x = put(backend, [1, 2, 3, 4, 5, 6]);
        const records = backend.arena.alloc(4 * RECORD_BYTES);
        const write = (i: number, call: Parameters<typeof encode>[3]) =>
          encode(backend.i32, backend.f32, (records + i * RECORD_BYTES) / 4, call);
        write(0, { op: "affine", x, y: x, shift: put(backend, [1, 1]), n: 0, hw: 1, c: 2 });
        write(1, { op: "affine", x, y: x, scale: put(backend, [2, 2]), n: 0, hw: 1, c: 2 });
        write(2, { op: "end" });
        write(3, { op: "fill", x, count: 6, value: 9 });
        backend.run(records, 4, 2);
        assert.deepEqual([...floats(backend, x, 6)], [4, 6, 8, 10, 5, 6]);
      });
    });

    it("gives the bits that one thread gives", async () => {
      const single = await openBackend({ device: backend.name, isa: backend.isa, threads: 1 });
      const expected = bigConvolution(single);
      single.dispose();
      for (let i = 0; i < 20; i++) assert.deepEqual(bigConvolution(backend), expected);
      assert.ok(expected.some((value) => value > 1));
    });

    it("leaves no scratch behind in a scope, and keeps what it has", () => {
      bigConvolution(backend);
      const { inUse } = backend.arena;
      backend.arena.scope(() => bigConvolution(backend));
      assert.equal(backend.arena.inUse, inUse);
    });

    it("asks for more than an arena holds where the scratch of a layer is that large", () => {
      backend.arena.scope(() => {
        const image = {
          n: 1,
          h: 1,
          width: 16384,
          cin: 32768,
          cout: 16,
          kernel: 3,
          stride: 1,
          pad: 1,
          oh: 1,
          ow: 16384,
        };
        const record = backend.arena.alloc(RECORD_BYTES);
        const call = { op: "conv", x: 64, w: 64, y: 64, ...image, cin_max: 32768, act: 0 } as const;
        encode(backend.i32, backend.f32, record / 4, call);
        assert.equal(backend.scratchBytes(record), 2 ** 32 - 1);
        assert.throws(() => backend.arena.alloc(backend.scratchBytes(record)), MemoryError);
      });
    });

    it("grows to what is asked for and keeps what was written", () => {
      backend.arena.scope(() => {
        const small = put(backend, [1, 2, 3]);
        const large = backend.arena.alloc(100 * 2 ** 20);
        backend.f32[large / 4 + 25 * 2 ** 20 - 1] = 7;
        assert.deepEqual([...floats(backend, small, 3)], [1, 2, 3]);
        backend.call({ op: "fill", x: large + 99 * 2 ** 20, count: 2 ** 18, value: 3 });
        assert.equal(backend.f32[large / 4 + 25 * 2 ** 20 - 1], 3);
      });
    });

    it("says when the arena is full", () => {
      assert.throws(() => backend.arena.alloc(2 ** 33), MemoryError);
    });

    it("refuses to run once disposed of, and its views are empty", () => {
      backend.dispose();
      backend.dispose();
      assert.equal(backend.f32.length, 0);
      assert.equal(backend.u8.length, 0);
      assert.throws(() => backend.run(64, 1));
      assert.throws(() => backend.scratchBytes(64));
    });
  });
}

describe("native", { skip: all[0]!.name.startsWith("native") ? false : "no native build on this machine" }, () => {
  it("refuses records outside the arena", async () => {
    const backend = await openBackend({ device: "native", threads: 1 });
    assert.throws(() => backend.run(-96, 1), RangeError);
    assert.throws(() => backend.run(2 ** 32 - 64, 1), RangeError);
    assert.throws(() => backend.run(64, 2 ** 31), RangeError);
    assert.throws(() => backend.scratchBytes(2 ** 33), RangeError);
    backend.dispose();
  });

  it("refuses an instruction set it lacks, and names those there are", async () => {
    await assert.rejects(
      openBackend({ device: "native", isa: "mmx" }),
      (error) => error instanceof BackendError && /no "mmx".*(baseline|neon)/.test(error.message),
    );
  });
});

describe("openBackend", () => {
  it("refuses a device or a number of threads that is none", async () => {
    await assert.rejects(openBackend({ device: "gpu" as "auto" }), UsageError);
    for (const threads of [-1, 1.5, 65, Number.NaN]) await assert.rejects(openBackend({ threads }), UsageError);
  });

  it("says why nothing could start", async () => {
    await assert.rejects(
      openBackend({ isa: "mmx" }),
      (error) => error instanceof BackendError && /native: .*\nwasm: no "mmx"/.test(error.message),
    );
  });
});
