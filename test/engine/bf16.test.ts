/** Networks in bf16: near fp32, half the memory for weights, and the laws of bits that hold in fp32. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { nativeIsas } from "../../src/backend/native.js";
import { openBackend } from "../../src/backend/open.js";
import { benchmark } from "../../src/evaluate/benchmark.js";
import { BackendError, load, UsageError } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { sliceModel } from "../../src/models/slice.js";
import { gateCount, type ModelSpec } from "../../src/models/spec.js";
import { gateLayers } from "../../src/nn/gate.js";
import { Param } from "../../src/nn/parameters.js";
import { draw, randomOf } from "../support/case.js";
import { gateWithin, randomImages, randomSpan, smallSpecs } from "../support/networks.js";
import { packPairs, roundBf16 } from "../support/reference.js";
import { fileOf } from "../support/slices.js";

const wasm = await openBackend({ device: "wasm", threads: 1 });
after(() => wasm.dispose());

/** Why there is no bf16 here; false where there is. */
const skip = await openBackend({ device: "native", threads: 1, precision: "bf16" }).then(
  (backend) => {
    backend.dispose();
    return false as const;
  },
  (error: Error) => error.message,
);

const specs = [...smallSpecs, gateWithin];
const open = (file: ModelFile, precision: "fp32" | "bf16", threads = 1) =>
  load(encodeModel(file), { device: "native", threads, precision });
const slotsOf = (file: ModelFile) => file.calibrated ?? [];

/** Largest difference, as a share of the largest value. */
function distance(got: Float32Array, want: Float32Array): number {
  const most = (values: Float32Array) => values.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
  return most(got.map((v, i) => v - want[i]!)) / most(want);
}

describe("weights in bf16", () => {
  for (const [cout, cin, kernel] of [
    [1, 1, 1],
    [16, 8, 1],
    [17, 5, 3],
    [40, 33, 1],
  ] as const) {
    it(`${cout}×${cin}×${kernel}×${kernel}: rounded, in pairs, and back`, () => {
      const param = new Param("w", "conv", [cout, cin, kernel, kernel], "decayed").inBf16();
      const values = draw(randomOf("bf16", cout, cin, kernel), param.size);
      const packed = new Float32Array(param.floats).fill(7);
      param.pack(values, packed);
      const expected = packPairs({ cin, cout, taps: kernel ** 2 }, roundBf16(values));
      assert.deepEqual(new Int32Array(packed.buffer), expected);
      assert.deepEqual(param.unpack(packed), roundBf16(values));
    });
  }

  it("ties go to even, infinity stays, NaN stays NaN", () => {
    const param = new Param("w", "conv", [1, 6, 1, 1], "decayed").inBf16();
    const bits = Uint32Array.of(0x3f808000, 0x3f818000, 0x7f7fffff, 0xff800000, 0x7f800001, 0x80000000);
    const packed = new Float32Array(param.floats);
    param.pack(new Float32Array(bits.buffer), packed);
    const unpacked = new Uint32Array(param.unpack(packed).buffer);
    assert.deepEqual(
      [...unpacked].map((b) => (b >>> 16).toString(16)),
      ["3f80", "3f82", "7f80", "ff80", "7fc0", "8000"],
    );
  });

  for (const spec of specs) {
    it(`all but depthwise, stem and gates, under the same names: ${spec.description}`, () => {
      const [full, half] = [build(spec), build(spec, "bf16")];
      const shapes = ({ layout }: typeof full) => layout.params.map(({ name, shape, role }) => ({ name, shape, role }));
      assert.deepEqual(shapes(half), shapes(full));
      const kept = half.convs.filter(({ weight }) => weight.kind === "conv").map(({ name }) => name);
      assert.deepEqual(
        new Set(kept),
        new Set(["conv_stem", ...half.gates.flatMap(gateLayers).map(({ name }) => name)]),
      );
    });
  }
});

describe("bf16", { skip }, () => {
  for (const spec of specs) {
    it(`is near fp32: ${spec.description}`, async () => {
      const file = fileOf(wasm, spec, 3);
      const images = randomImages(spec, 3, 4);
      const [half, full] = await Promise.all([open(file, "bf16"), open(file, "fp32")]);
      assert.deepEqual([half.device.precision, full.device.precision], ["bf16", "fp32"]);
      for (const width of slotsOf(file)) {
        const off = distance(half.run(images, { width }), full.run(images, { width }));
        assert.ok(off > 0 && off < 0.02, `width ${width}: ${off}`);
      }
      half.dispose();
      full.dispose();
    });

    it(`a slice is the bits of a network of its own: ${spec.description}`, async () => {
      const file = fileOf(wasm, spec, 5);
      const images = randomImages(spec, 2, 6);
      const whole = await open(file, "bf16");
      for (const width of slotsOf(file)) {
        const slice = await open(sliceModel(file, width), "bf16");
        assert.deepEqual(slice.run(images, { width: 0 }), whole.run(images, { width }), `width ${width}`);
        slice.dispose();
      }
      whole.dispose();
    });

    it(`neither batch nor threads change a bit: ${spec.description}`, async () => {
      const file = fileOf(wasm, spec, 7);
      const n = 7;
      const images = randomImages(spec, n, 8);
      const networks = await Promise.all([1, 2, 4].map((threads) => open(file, "bf16", threads)));
      const classes = spec.classes;
      for (const width of [...slotsOf(file), ...(networks[0]!.gated ? ["dynamic" as const] : [])]) {
        const want = networks[0]!.run(images, { width });
        for (const network of networks.slice(1)) assert.deepEqual(network.run(images, { width }), want);
        const size = images.length / n;
        for (let i = 0; i < n; i++) {
          const alone = networks[0]!.run(images.subarray(i * size, (i + 1) * size), { width });
          assert.deepEqual(alone, want.subarray(i * classes, (i + 1) * classes), `image ${i} at ${width}`);
        }
      }
      for (const network of networks) network.dispose();
    });
  }

  for (const spec of specs.filter((each) => gateCount(each) === 1)) {
    it(`a cascade gives the bits of the width where it ends: ${spec.description}`, async () => {
      const file = fileOf(wasm, spec, 9);
      const images = randomImages(spec, 3, 10);
      const { candidates } = file;
      for (const [threshold, width] of [
        [0, candidates[0]!],
        [1, candidates.at(-1)!],
      ] as const) {
        const cascade = await open(
          { ...file, routing: { by: "cascade", wider: candidates.at(-1)!, threshold } },
          "bf16",
        );
        const fixed = cascade.run(images, { width });
        assert.deepEqual(cascade.run(images), fixed, "three at once");
        assert.deepEqual(cascade.run(images.subarray(0, images.length / 3)), fixed.subarray(0, spec.classes), "one");
        cascade.dispose();
      }
    });
  }

  it("ds_mbnet: logits within 0.5 % of the largest at the widths, weights in 0.55 of the memory", async () => {
    const spec = modelSpec("ds_mbnet");
    const file = fileOf(wasm, spec, 1);
    const images = randomImages(spec, 1, 2);
    const [half, full] = await Promise.all([open(file, "bf16"), open(file, "fp32")]);
    assert.ok(half.memory() < 0.55 * full.memory(), `${half.memory()} of ${full.memory()} bytes`);
    for (const width of [0, 7, 13]) {
      const off = distance(half.run(images, { width }), full.run(images, { width }));
      assert.ok(off > 0 && off < 0.005, `width ${width}: ${off}`);
    }
    half.dispose();
    full.dispose();
  });

  it("can be benchmarked", async () => {
    const backend = await openBackend({ device: "native", threads: 1, precision: "bf16" });
    const [full, half] = (["fp32", "bf16"] as const).map((precision) => {
      const net = build(modelSpec("ds_mbnet_28"), precision);
      return benchmark(backend, net, randomSpan(backend, net, 1), { rounds: 2 });
    });
    assert.deepEqual([full!.precision, half!.precision], ["fp32", "bf16"]);
    assert.ok(half!.memory.weights < 0.6 * full!.memory.weights);
    assert.ok(half!.rows.every(({ median }) => median > 0) && half!.peakGmacs > 0);
    backend.dispose();
  });
});

describe("where there is no bf16", () => {
  const file = encodeModel(fileOf(wasm, smallSpecs[0] as ModelSpec, 1));

  it("asking for it says what is missing", async () => {
    const refusal = { code: "ERR_BACKEND", message: /precision "bf16".*\nwasm: no bf16: WebAssembly has no bf16/s };
    await assert.rejects(load(file, { device: "wasm", threads: 1, precision: "bf16" }), refusal);
    for (const isa of nativeIsas().filter((name) => name !== "avx512")) {
      const options = { device: "native", threads: 1, isa, precision: "bf16" } as const;
      await assert.rejects(openBackend(options), (error: BackendError) => {
        assert.match(error.message, /native: no bf16: only the AVX-512 kernels compute in bf16/);
        return error instanceof BackendError;
      });
    }
  });

  it("auto is fp32, and another name is refused", async () => {
    for (const precision of ["auto", undefined] as const) {
      const network = await load(file, { threads: 1, ...(precision && { precision }) });
      assert.equal(network.device.precision, "fp32");
      network.dispose();
    }
    await assert.rejects(load(file, { precision: "int8" as "auto" }), (error: UsageError) => {
      assert.match(error.message, /precision must be .*"int8"/);
      return error instanceof UsageError;
    });
  });
});
