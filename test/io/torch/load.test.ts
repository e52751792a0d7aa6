/** Files of torch.save, read as data. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { FormatError } from "../../../src/errors.js";
import type { StoredTensor } from "../../../src/io/safetensors.js";
import { readTorch, type TorchOptions } from "../../../src/io/torch/load.js";
import { Tensor } from "../../../src/io/torch/tensor.js";
import { Dict, Inert, List, Tuple } from "../../../src/io/torch/values.js";
import { Global, Float, Reduce, Tuple as PyTuple } from "./support/pickle.js";
import { ordered, saveLegacy, saveZip, storage, tensor, view } from "./support/torch.js";

/** As JSON has it; integers beyond 2^53 as text. */
function plain(value: unknown): unknown {
  if (value instanceof Tensor) return { ...value.stored(), values: elements(value.stored()) };
  if (value instanceof List || value instanceof Tuple) return value.items.map(plain);
  if (value instanceof Dict) return Object.fromEntries([...value.entries].map(([key, item]) => [key, plain(item)]));
  if (value instanceof Inert) return { inert: value.name, state: plain(value.state) };
  return typeof value === "bigint" ? String(value) : value;
}

function elements({ dtype, data }: StoredTensor): (number | string | boolean)[] {
  const buffer = data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer;
  const half = (bits: number) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  };
  const single = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
  switch (dtype) {
    case "F64":
      return [...new Float64Array(buffer)];
    case "F32":
      return [...new Float32Array(buffer)];
    case "F16":
      return Array.from(new Uint16Array(buffer), half);
    case "BF16":
      return Array.from(new Uint16Array(buffer), (bits) => single(bits << 16));
    case "I64":
      return Array.from(new BigInt64Array(buffer), String);
    case "I32":
      return [...new Int32Array(buffer)];
    case "I16":
      return [...new Int16Array(buffer)];
    case "I8":
      return [...new Int8Array(buffer)];
    case "BOOL":
      return Array.from(data, Boolean);
    default:
      return [...data];
  }
}

const both = (value: unknown, protocol = 2) =>
  [
    ["zip", saveZip(value, { protocol })],
    ["legacy", saveLegacy(value, { protocol })],
  ] as const;

function read(bytes: Uint8Array, options?: TorchOptions): Record<string, unknown> {
  return plain(readTorch(bytes, options).value) as Record<string, unknown>;
}

describe("readTorch", () => {
  for (const protocol of [1, 2, 3, 4, 5]) {
    it(`tensors and values beside them, protocol ${protocol}`, () => {
      const value = new Map<unknown, unknown>([
        ["t", tensor([2, 3], [1, 2, 3, 4, 5, 6])],
        ["n", tensor([], [-7], "I64")],
        ["numbers", [0, 255, 256, -1, 65535, 65536, -(2 ** 31), 2 ** 40, -(2 ** 40), 2n ** 70n, new Float(3), 0.1]],
        ["others", [null, true, false, "naïve ✓", new PyTuple(), new PyTuple(1, new PyTuple(2)), [], new Map()]],
      ]);
      for (const [format, file] of both(value, protocol)) {
        const got = readTorch(file);
        assert.deepEqual([got.format, got.inert], [format, []]);
        const { t, n, ...rest } = plain(got.value) as Record<string, { shape: number[]; values: unknown[] }>;
        assert.deepEqual(
          [t!.shape, t!.values],
          [
            [2, 3],
            [1, 2, 3, 4, 5, 6],
          ],
        );
        assert.deepEqual([n!.shape, n!.values], [[], ["-7"]]);
        assert.deepEqual(rest, {
          numbers: [0, 255, 256, -1, 65535, 65536, -(2 ** 31), 2 ** 40, -(2 ** 40), String(2n ** 70n), 3, 0.1],
          others: [null, true, false, "naïve ✓", [], [1, [2]], [], {}],
        });
      }
    });
  }

  it("values in protocol 0, whose opcodes are text; tensors in it are refused, as it cannot name storages", () => {
    const values = [1, -(2 ** 40), 2n ** 70n, 0.1, new Float(-1e300), true, null, "naïve ✓ 😀\n\\", new PyTuple(1, [])];
    const got = read(saveZip(new Map([["v", values]]), { protocol: 0 }));
    assert.deepEqual(got.v, [1, -(2 ** 40), String(2n ** 70n), 0.1, -1e300, true, null, "naïve ✓ 😀\n\\", [1, []]]);
    assert.throws(() => readTorch(saveZip(tensor([1], [1]), { protocol: 0 })), /PERSID/);
  });

  it("views of one storage: transposed, strided, offset, empty, repeated sizes of 1", () => {
    const base = storage(Array.from({ length: 24 }, (_, i) => i));
    const value = new Map([
      ["transposed", view(base, { shape: [6, 4], strides: [1, 6] })],
      ["strided", view(base, { offset: 6, shape: [3, 3], strides: [6, 2] })],
      ["row", view(base, { offset: 12, shape: [6], strides: [1] })],
      ["ones", view(base, { offset: 1, shape: [1, 2, 1], strides: [99, 1, 99] })],
      ["empty", view(base, { offset: 24, shape: [0, 3], strides: [3, 1] })],
    ]);
    for (const [, file] of both(value)) {
      const got = read(file) as Record<string, { shape: number[]; values: number[] }>;
      const columns = [0, 1, 2, 3, 4, 5].flatMap((c) => [0, 1, 2, 3].map((r) => r * 6 + c));
      assert.deepEqual(got.transposed!.values, columns);
      assert.deepEqual(got.strided!.values, [6, 8, 10, 12, 14, 16, 18, 20, 22]);
      assert.deepEqual(got.row!.values, [12, 13, 14, 15, 16, 17]);
      assert.deepEqual(
        [got.ones!.shape, got.ones!.values],
        [
          [1, 2, 1],
          [1, 2],
        ],
      );
      assert.deepEqual([got.empty!.shape, got.empty!.values], [[0, 3], []]);
    }
  });

  it("a dense tensor is a view of the file, and reading changes no byte of it", () => {
    for (const [, written] of both(ordered([["t", tensor([4], [1, 2, 3, 4])]]))) {
      const file = Buffer.from(written); // whose slice() is a view
      const { value } = readTorch(file);
      const t = (value as Dict).entries.get("t") as Tensor;
      assert.equal(t.stored().data.buffer, file.buffer);
      assert.deepEqual(new Uint8Array(file), written);
    }
  });

  it("globals that weights do not need are inert, with the attributes the file gives them", () => {
    const call = new Reduce(new Global("os", "system"), new PyTuple("echo"), {
      state: new Map([["a", 1]]),
      items: new Map([["dropped", 1]]),
      list: [2],
    });
    const chained = new Reduce(
      new Reduce(new Global("builtins", "getattr"), new PyTuple(new Global("os", "x"), "y")),
      new PyTuple(),
    );
    for (const [, file] of both(
      new Map<string, unknown>([
        ["args", call],
        ["more", chained],
      ]),
    )) {
      const { value, inert } = readTorch(file);
      assert.deepEqual(inert, ["builtins.getattr", "os.system", "os.x"]);
      assert.deepEqual(plain(value), {
        args: { inert: "os.system", state: { a: 1 } },
        more: { inert: "builtins.getattr", state: null },
      });
      assert.throws(
        () => readTorch(file, { strict: true }),
        (error) => error instanceof FormatError && /"os\.system"/.test(error.message),
      );
    }
  });

  it("sizes, devices, dtypes and parameters need no resolving", () => {
    const parameter = new Reduce(
      new Global("torch._utils", "_rebuild_parameter"),
      new PyTuple(tensor([1], [4]), true, ordered([])),
    );
    const value = new Map<string, unknown>([
      ["p", parameter],
      ["size", new Reduce(new Global("torch", "Size"), new PyTuple(new PyTuple(2, 3)))],
      ["device", new Reduce(new Global("torch", "device"), new PyTuple("cuda", 0))],
      ["dtype", new Global("torch", "float32")],
    ]);
    for (const [, file] of both(value)) {
      const { p, size, device } = read(file, { strict: true }) as Record<string, { values: number[] }>;
      assert.deepEqual([p!.values, size, device], [[4], [2, 3], "cuda"]);
    }
  });

  it("torch's own files of assorted tensors and values", (t) => {
    const folder = "../shared/parity/checkpoints";
    if (!existsSync(folder)) return t.skip("the parity data are not on this machine");
    const expected = JSON.parse(readFileSync(`${folder}/extras.json`, "utf8"));
    const names: Record<string, string> = { F: "float", I: "int", U: "uint", BF: "bfloat" };
    for (const [file, format] of [
      ["extras-zip.pth", "zip"],
      ["extras-legacy.pth", "legacy"],
    ]) {
      const read = readTorch(readFileSync(`${folder}/${file}`), { strict: true });
      assert.equal(read.format, format);
      const got = plain(read.value) as Record<string, StoredTensor & { values: unknown[] }>;
      assert.deepEqual(Object.keys(got), Object.keys(expected));
      for (const [name, want] of Object.entries<{ dtype?: string; shape: number[]; values: unknown[] }>(expected)) {
        if (want.dtype === undefined) {
          assert.deepEqual(got[name], want);
          continue;
        }
        const { dtype, shape, values } = got[name]!;
        const spelled = dtype === "BOOL" ? "bool" : dtype.replace(/^[A-Z]+/, (kind) => names[kind]!);
        assert.deepEqual({ dtype: spelled, shape, values }, want, `${file} ${name}`);
      }
    }
  });

  it("has no way to run anything: its source calls no loader, evaluator or process", () => {
    const folder = "src/io/torch";
    const files = readdirSync(folder);
    assert.ok(files.includes("unpickle.ts"));
    for (const file of files) {
      const source = readFileSync(`${folder}/${file}`, "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
      assert.doesNotMatch(
        source,
        /\beval\b|\bFunction\(|\bimport\(|\brequire\b|child_process|node:|globalThis|\bprocess\b/,
        file,
      );
    }
  });
});
