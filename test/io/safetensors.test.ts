import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { FormatError } from "../../src/errors.js";
import { asFloat32, float16Tensor, float32Tensor } from "../../src/io/float32.js";
import { DTYPES, type Dtype, readSafetensors, type StoredTensor, writeSafetensors } from "../../src/io/safetensors.js";
import { lacks, parityRoot } from "../support/parity.js";
import { craft, entry } from "./craft.js";

const zeros = (n: number) => new Uint8Array(n);
const ok = entry("a", "U8", "[2]", 0, 2);

/** What the header of a one-tensor file may get wrong: [what, header text, data bytes, error's name]. */
type BadHeader = [what: string, header: string, bytes: number, error: string];
type BadFile = [what: string, file: Uint8Array, error: string];

const JSON_ERROR = "InvalidHeaderDeserialization";

function claiming(headerBytes: bigint, fileBytes: number): Uint8Array {
  const file = zeros(fileBytes);
  new DataView(file.buffer).setBigUint64(0, headerBytes, true);
  return file;
}

function withByte(header: string, at: number, byte: number): Uint8Array {
  const text = new TextEncoder().encode(header);
  text[at] = byte;
  return text;
}

const lengths: BadFile[] = [
  ["an empty file", zeros(0), "HeaderTooSmall"],
  ["one byte", zeros(1), "HeaderTooSmall"],
  ["seven bytes", zeros(7), "HeaderTooSmall"],
  ["a header of one byte over the limit", claiming(100_000_001n, 64), "HeaderTooLarge"],
  ["a header of 4 GiB", claiming(2n ** 32n, 64), "HeaderTooLarge"],
  ["a length beyond 2^53", claiming(2n ** 53n + 1n, 64), "HeaderTooLarge"],
  ["a length of 2^64 - 1, which overflows with the 8", claiming(2n ** 64n - 1n, 64), "HeaderTooLarge"],
  ["a length of 2^63", claiming(2n ** 63n, 64), "HeaderTooLarge"],
  ["text instead of a length", new TextEncoder().encode("GIF89a, not tensors"), "HeaderTooLarge"],
  ["a header of one byte more than the file", claiming(57n, 64), "InvalidHeaderLength"],
  ["a header at the limit in a short file", claiming(100_000_000n, 64), "InvalidHeaderLength"],
  ["eight bytes that claim a header", claiming(2n, 8), "InvalidHeaderLength"],
];

const encodings: BadFile[] = [
  ["a stray continuation byte", craft(withByte(`{${ok}}`, 2, 0x80), zeros(2)), "InvalidHeader"],
  ["a byte no UTF-8 has", craft(withByte(`{${ok}}`, 2, 0xff), zeros(2)), "InvalidHeader"],
  ["an overlong slash", craft(new Uint8Array([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x7d])), "InvalidHeader"],
  ["a surrogate encoded as UTF-8", craft(new Uint8Array([0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d])), "InvalidHeader"],
  ["a character cut off at the header's end", craft(new Uint8Array([0x7b, 0x7d, 0xe2, 0x82])), "InvalidHeader"],
  ["a code point beyond U+10FFFF", craft(new Uint8Array([0x7b, 0xf4, 0x90, 0x80, 0x80, 0x7d])), "InvalidHeader"],
  ["UTF-16", craft(new Uint8Array([0x7b, 0, 0x7d, 0])), JSON_ERROR],
  ["a byte order mark", craft(new Uint8Array([0xef, 0xbb, 0xbf, 0x7b, 0x7d])), JSON_ERROR],
];

const json: BadHeader[] = [
  ["an empty header", "", 0, JSON_ERROR],
  ["a header of white space", "    ", 0, JSON_ERROR],
  ["an array", "[]", 0, JSON_ERROR],
  ["a number", "1", 0, JSON_ERROR],
  ["null", "null", 0, JSON_ERROR],
  ["an object that is not closed", `{${ok}`, 2, JSON_ERROR],
  ["two objects", `{${ok}}{}`, 2, JSON_ERROR],
  ["text behind the object", `{${ok}}x`, 2, JSON_ERROR],
  ["a NUL behind the object", `{${ok}}\0`, 2, JSON_ERROR],
  ["white space JSON does not know", `\u00a0{${ok}}`, 2, JSON_ERROR],
  ["a trailing comma", `{${ok},}`, 2, JSON_ERROR],
  ["a comment", `{/* */${ok}}`, 2, JSON_ERROR],
  ["single quotes", `{${ok.replaceAll('"', "'")}}`, 2, JSON_ERROR],
  ["a name without quotes", `{a:{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["a name that is not closed", `{"a`, 0, JSON_ERROR],
  ["a name that ends in a backslash", `{"a\\`, 0, JSON_ERROR],
  ["an unknown escape", `{"\\x61":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["a raw line break in a name", `{"a\n":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["half a surrogate pair", `{"\\ud800":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["nesting a million deep", `{"a":${"[".repeat(1_000_000)}`, 0, JSON_ERROR],
];

const keys: BadHeader[] = [
  ["a tensor twice", `{${ok},${ok}}`, 2, JSON_ERROR],
  ["a tensor twice, once by an escape", `{${ok},${ok.replace('"a"', '"\\u0061"')}}`, 2, JSON_ERROR],
  [
    "__proto__ twice",
    `{${entry("__proto__", "U8", "[0]", 0, 0)},${entry("__proto__", "U8", "[0]", 0, 0)}}`,
    0,
    JSON_ERROR,
  ],
  ["__metadata__ twice", `{"__metadata__":{},"__metadata__":{}}`, 0, JSON_ERROR],
  ["a metadata key twice", `{"__metadata__":{"k":"1","k":"2"}}`, 0, JSON_ERROR],
  ["dtype twice", `{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["shape twice", `{"a":{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
];

const metadata: BadHeader[] = [
  ["a number as metadata", `{"__metadata__":{"k":1}}`, 0, JSON_ERROR],
  ["null as metadata", `{"__metadata__":{"k":null}}`, 0, JSON_ERROR],
  ["an object as metadata", `{"__metadata__":{"k":{}}}`, 0, JSON_ERROR],
  ["a list instead of metadata", `{"__metadata__":["k"]}`, 0, JSON_ERROR],
  ["text instead of metadata", `{"__metadata__":"k"}`, 0, JSON_ERROR],
  ["a tensor called __metadata__", `{${entry("__metadata__", "U8", "[2]", 0, 2)}}`, 2, JSON_ERROR],
];

const infos: BadHeader[] = [
  ["a number instead of a tensor", `{"a":5}`, 0, JSON_ERROR],
  ["an empty tensor entry", `{"a":{}}`, 0, JSON_ERROR],
  ["no dtype", `{"a":{"shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["no shape", `{"a":{"dtype":"U8","data_offsets":[0,2]}}`, 2, JSON_ERROR],
  ["no offsets", `{"a":{"dtype":"U8","shape":[2]}}`, 2, JSON_ERROR],
  ["an unknown field", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"strides":[1]}}`, 2, JSON_ERROR],
  ["a negative size", `{${entry("a", "U8", "[-2]", 0, 2)}}`, 2, JSON_ERROR],
  ["two negative sizes whose product fits", `{${entry("a", "U8", "[-1,-2]", 0, 2)}}`, 2, JSON_ERROR],
  ["minus zero", `{${entry("a", "U8", "[-0]", 0, 0)}}`, 0, JSON_ERROR],
  ["a fraction", `{${entry("a", "U8", "[2.0]", 0, 2)}}`, 2, JSON_ERROR],
  ["an exponent", `{${entry("a", "U8", "[2e0]", 0, 2)}}`, 2, JSON_ERROR],
  ["a leading zero", `{${entry("a", "U8", "[02]", 0, 2)}}`, 2, JSON_ERROR],
  ["a size in quotes", `{${entry("a", "U8", '["2"]', 0, 2)}}`, 2, JSON_ERROR],
  ["a size that is no list", `{${entry("a", "U8", "2", 0, 2)}}`, 2, JSON_ERROR],
  ["a list in the shape", `{${entry("a", "U8", "[[2]]", 0, 2)}}`, 2, JSON_ERROR],
  ["a trailing comma in the shape", `{${entry("a", "U8", "[2,]", 0, 2)}}`, 2, JSON_ERROR],
  ["one offset", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[2]}}`, 2, JSON_ERROR],
  ["three offsets", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,2]}}`, 2, JSON_ERROR],
  ["a negative offset", `{${entry("a", "U8", "[2]", -2, 0)}}`, 2, JSON_ERROR],
  ["an offset of 2^53", `{${entry("a", "U8", "[2]", 0, "9007199254740992")}}`, 2, JSON_ERROR],
  ["an offset of 2^64, which wraps to 0", `{${entry("a", "U8", "[2]", "18446744073709551616", 2)}}`, 2, JSON_ERROR],
  ["an offset of a million digits", `{${entry("a", "U8", "[2]", 0, "9".repeat(1_000_000))}}`, 2, JSON_ERROR],
];

const dtypes: BadHeader[] = ["F8", "f32", "float32", "", "F32 ", "U128", "__proto__", "toString"].map((dtype) => [
  `dtype "${dtype}"`,
  `{${entry("a", dtype, "[0]", 0, 0)}}`,
  0,
  JSON_ERROR,
]);
dtypes.push(["dtype null", `{"a":{"dtype":null,"shape":[2],"data_offsets":[0,2]}}`, 2, JSON_ERROR]);

const pair = (a: [number, number], b: [number, number]) =>
  `{${entry("a", "U8", `[${Math.max(0, a[1] - a[0])}]`, ...a)},${entry("b", "U8", `[${Math.max(0, b[1] - b[0])}]`, ...b)}}`;

const offsets: BadHeader[] = [
  ["a hole at the start", `{${entry("a", "U8", "[2]", 1, 3)}}`, 3, "InvalidOffset"],
  ["a hole in the middle", pair([0, 2], [3, 5]), 5, "InvalidOffset"],
  ["two tensors on one range", pair([0, 2], [0, 2]), 2, "InvalidOffset"],
  [
    "a thousand tensors on one range",
    `{${Array.from({ length: 1000 }, (_, i) => entry(`t${i}`, "U8", "[2]", 0, 2))}}`,
    2,
    "InvalidOffset",
  ],
  ["an overlap of one byte", pair([0, 2], [1, 3]), 3, "InvalidOffset"],
  ["one tensor inside another", pair([0, 4], [1, 2]), 4, "InvalidOffset"],
  ["an end before the beginning", pair([0, 2], [2, 1]), 2, "InvalidOffset"],
  ["an empty tensor away from its neighbours", `{${ok},${entry("b", "U8", "[0]", 1, 1)}}`, 2, "InvalidOffset"],
];

const sizes: BadHeader[] = [
  [
    "a product beyond 2^53",
    `{${entry("a", "U8", "[4503599627370496,4503599627370496]", 0, 2)}}`,
    2,
    "ValidationOverflow",
  ],
  [
    "a product of 2^64, which wraps to 0",
    `{${entry("a", "U8", "[4294967296,4294967296]", 0, 0)}}`,
    0,
    "ValidationOverflow",
  ],
  ["bits beyond 2^53", `{${entry("a", "F64", "[2251799813685248]", 0, 8)}}`, 8, "ValidationOverflow"],
  ["three F4", `{${entry("a", "F4", "[3]", 0, 2)}}`, 2, "MisalignedSlice"],
  ["one F4 as scalar", `{${entry("a", "F4", "[]", 0, 1)}}`, 1, "MisalignedSlice"],
  ["two F6", `{${entry("a", "F6_E2M3", "[2]", 0, 2)}}`, 2, "MisalignedSlice"],
  ["three F6", `{${entry("a", "F6_E3M2", "[3]", 0, 3)}}`, 3, "MisalignedSlice"],
  ["a shape larger than the bytes", `{${entry("a", "F32", "[3]", 0, 8)}}`, 8, "TensorInvalidInfo"],
  ["a shape smaller than the bytes", `{${entry("a", "F32", "[1]", 0, 8)}}`, 8, "TensorInvalidInfo"],
  ["a scalar without bytes", `{${entry("a", "F32", "[]", 0, 0)}}`, 0, "TensorInvalidInfo"],
  ["an empty tensor with bytes", `{${entry("a", "F32", "[0]", 0, 4)}}`, 4, "TensorInvalidInfo"],
  ["half an element", `{${entry("a", "F32", "[1]", 0, 2)}}`, 2, "TensorInvalidInfo"],
];

const ends: BadHeader[] = [
  ["a file that is one byte short", `{${ok}}`, 1, "MetadataIncompleteBuffer"],
  ["a file without its data", `{${ok}}`, 0, "MetadataIncompleteBuffer"],
  ["one byte behind the last tensor", `{${ok}}`, 3, "MetadataIncompleteBuffer"],
  ["data without a tensor", "{}", 1, "MetadataIncompleteBuffer"],
  [
    "a tensor of 8 TB in a small file",
    `{${entry("a", "U8", "[8000000000000]", 0, 8000000000000)}}`,
    2,
    "MetadataIncompleteBuffer",
  ],
];

const headers = (cases: BadHeader[]): BadFile[] =>
  cases.map(([what, header, bytes, error]) => [what, craft(header, zeros(bytes)), error]);

const rules: [rule: string, cases: BadFile[]][] = [
  ["1 and 2, the header's length", lengths],
  ["3, UTF-8", encodings],
  ["4, one JSON object", headers(json)],
  ["5, no key twice", headers(keys)],
  ["6, metadata of strings", headers(metadata)],
  ["7, a tensor's fields", headers(infos)],
  ["8, dtypes", headers(dtypes)],
  ["9, no hole and no overlap", headers(offsets)],
  ["10, sizes", headers(sizes)],
  ["11, the file's end", headers(ends)],
];

describe("readSafetensors refuses", () => {
  for (const [rule, cases] of rules) {
    describe(`rule ${rule}`, () => {
      for (const [what, file, error] of cases) {
        it(what, () => {
          assert.throws(
            () => readSafetensors(file),
            (thrown) => {
              assert.ok(thrown instanceof FormatError, String(thrown));
              assert.equal(thrown.message.split(":")[0], error, thrown.message);
              assert.ok(thrown.message.length < 1000, "a message stays short whatever the file holds");
              return true;
            },
          );
        });
      }
    });
  }

  it("every truncation and every extension of a good file", () => {
    const file = writeSafetensors(
      new Map([
        ["w", float32Tensor([2], new Float32Array([1, 2]))],
        ["empty", { dtype: "F32", shape: [0], data: zeros(0) }],
      ]),
      new Map([["k", "v"]]),
    );
    for (let length = 0; length < file.length; length++) {
      assert.throws(() => readSafetensors(file.subarray(0, length)), FormatError, `length ${length}`);
    }
    assert.throws(() => readSafetensors(new Uint8Array([...file, 0])), FormatError);
  });
});

const BITS: Record<string, number> = { F4: 4, F6_E2M3: 6, F6_E3M2: 6, BOOL: 8, C64: 64, BF16: 16 };
const bitsOf = (dtype: Dtype) => BITS[dtype] ?? Number(/^[A-Z]+(\d+)/.exec(dtype)![1]);

describe("readSafetensors accepts", () => {
  for (const dtype of DTYPES) {
    it(`${dtype}, and writing gives the same bytes`, () => {
      const data = Uint8Array.from({ length: bitsOf(dtype) * 2 }, (_, i) => (i * 37) & 255);
      const tensor: StoredTensor = { dtype, shape: [4, 4], data };
      const file = writeSafetensors(new Map([["t", tensor]]), new Map());
      const read = readSafetensors(file);
      assert.deepEqual(read.tensors.get("t"), tensor);
      assert.deepEqual(writeSafetensors(read.tensors, read.metadata), file);
    });
  }

  it("all 22 dtypes of the format", () => assert.equal(DTYPES.length, 22));

  it("a file without tensors, with and without metadata", () => {
    assert.equal(readSafetensors(craft("{}")).tensors.size, 0);
    assert.deepEqual([...readSafetensors(craft('{"__metadata__":{"a":"b"}}')).metadata], [["a", "b"]]);
    assert.equal(readSafetensors(craft('{"__metadata__":{}}')).metadata.size, 0);
  });

  it("white space before, within and behind the header", () => {
    const { tensors } = readSafetensors(
      craft(` \n\r\t{ "a" : {"dtype":"U8" , "shape":[ 2 ],"data_offsets":[0 ,2]}\n} \n\r\t`, [7, 8]),
    );
    assert.deepEqual([...tensors.get("a")!.data], [7, 8]);
  });

  it("fields in any order, and tensors in any order of the header", () => {
    const { tensors } = readSafetensors(
      craft(`{"b":{"data_offsets":[1,2],"shape":[1],"dtype":"U8"},${entry("a", "U8", "[1]", 0, 1)}}`, [7, 8]),
    );
    assert.deepEqual([...tensors.keys()], ["a", "b"]);
    assert.deepEqual([...tensors.get("b")!.data], [8]);
  });

  it("scalars and empty tensors, wherever the empty ones lie", () => {
    const header = [
      entry("e0", "F32", "[0]", 0, 0),
      entry("scalar", "U8", "[]", 0, 1),
      entry("e1", "F32", "[3,0,5]", 1, 1),
      entry("b", "U8", "[1]", 1, 2),
      entry("e2", "F64", "[0,9007199254740991]", 2, 2),
    ];
    const { tensors } = readSafetensors(craft(`{${header}}`, [7, 8]));
    assert.equal(tensors.size, 5);
    assert.deepEqual(tensors.get("scalar")!.shape, []);
    assert.deepEqual(tensors.get("e1")!.shape, [3, 0, 5]);
    assert.equal(tensors.get("e2")!.data.length, 0);
  });

  it("any Unicode name, escaped or not", () => {
    const names = [
      "",
      "__proto__",
      "constructor",
      'quo"te',
      "back\\slash",
      "tab\t",
      "ü",
      "😀",
      "\u2028",
      "a".repeat(100_000),
    ];
    const tensors = new Map(
      names.map((name, i) => [name, { dtype: "U8", shape: [1], data: new Uint8Array([i]) } as const]),
    );
    const stored = tensors as unknown as Map<string, StoredTensor>;
    const read = readSafetensors(writeSafetensors(stored, new Map([["__proto__", "plain"]])));
    for (const [i, name] of names.entries())
      assert.equal(read.tensors.get(name)?.data[0], i, JSON.stringify(name.slice(0, 20)));
    assert.equal(read.metadata.get("__proto__"), "plain");
    assert.deepEqual(
      [...readSafetensors(craft(`{"\\ud83d\\ude00":${entry("", "U8", "[0]", 0, 0).slice(3)}}`)).tensors.keys()],
      ["😀"],
    );
  });

  it("a file that does not start at the beginning of its buffer", () => {
    const file = craft(`{${ok}}`, [7, 8]);
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    assert.deepEqual([...readSafetensors(shifted.subarray(3)).tensors.get("a")!.data], [7, 8]);
  });

  it("100,000 tensors in reasonable time", () => {
    const tensors = new Map<string, StoredTensor>();
    for (let i = 0; i < 100_000; i++)
      tensors.set(`t${i}`, { dtype: "U8", shape: [1], data: new Uint8Array([i & 255]) });
    assert.equal(readSafetensors(writeSafetensors(tensors, new Map())).tensors.size, 100_000);
  });

  it("tensors as views: no byte is copied", () => {
    const file = craft(`{${ok}}`, [7, 8]);
    assert.equal(readSafetensors(file).tensors.get("a")!.data.buffer, file.buffer);
  });

  const foreign = ["tiny/weights", "tiny_ir/dynamic", "ops/ops", "full/results", "checkpoints/checkpoint-3"].map(
    (name) => `${name}.safetensors`,
  );
  it("every file of another writer, byte for byte after a round trip of its tensors", {
    skip: lacks(...foreign),
  }, () => {
    for (const path of foreign) {
      const read = readSafetensors(readFileSync(`${parityRoot}/${path}`));
      assert.ok(read.tensors.size > 0);
      const again = readSafetensors(writeSafetensors(read.tensors, read.metadata));
      assert.equal(again.tensors.size, read.tensors.size);
      for (const [name, { dtype, shape, data }] of read.tensors) {
        const copy = again.tensors.get(name)!;
        assert.deepEqual([copy.dtype, copy.shape], [dtype, shape]);
        assert.equal(Buffer.compare(copy.data, data), 0, name);
      }
    }
  });
});

describe("writeSafetensors", () => {
  const tensor = (dtype: Dtype, bytes: number): StoredTensor => ({
    dtype,
    shape: [(bytes * 8) / bitsOf(dtype)],
    data: zeros(bytes),
  });

  it("sorts by descending alignment, then name, and pads the header with spaces to 8", () => {
    const tensors = new Map([
      ["z", tensor("F32", 4)],
      ["byte", tensor("U8", 3)],
      ["b", tensor("F32", 8)],
      ["long", tensor("I64", 8)],
      ["half", tensor("F16", 2)],
      ["a", tensor("F32", 4)],
    ]);
    const file = writeSafetensors(tensors, new Map([["k", "v"]]));
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    assert.equal(length % 8, 0);
    const text = new TextDecoder().decode(file.subarray(8, 8 + length));
    assert.match(text, /^\{"__metadata__":\{"k":"v"\},"long":.*\} *$/);
    assert.deepEqual([...readSafetensors(file).tensors.keys()], ["long", "a", "b", "z", "half", "byte"]);
    for (const { dtype, data } of readSafetensors(file).tensors.values()) {
      assert.equal(data.byteOffset % Math.max(1, bitsOf(dtype) / 8), 0, dtype);
    }
  });

  it("gives equal bytes whatever the order of insertion", () => {
    const list: [string, StoredTensor][] = [...Array(20).keys()].map((i) => [`t${i}`, tensor(i % 2 ? "F32" : "U8", 4)]);
    const metadata = new Map([["k", "v"]]);
    assert.deepEqual(writeSafetensors(new Map(list), metadata), writeSafetensors(new Map(list.reverse()), metadata));
  });

  const refused: [what: string, name: string, tensor: StoredTensor, error: string][] = [
    ["a shape that does not fit the data", "t", { dtype: "F32", shape: [3], data: zeros(8) }, "TensorInvalidInfo"],
    ["a fractional shape", "t", { dtype: "F32", shape: [0.5, 2], data: zeros(4) }, "ValidationOverflow"],
    ["a negative shape", "t", { dtype: "F32", shape: [-1], data: zeros(4) }, "ValidationOverflow"],
    ["an unknown dtype", "t", { dtype: "F31" as Dtype, shape: [1], data: zeros(4) }, "TensorInvalidInfo"],
    ["a partly filled byte", "t", { dtype: "F4", shape: [3], data: zeros(2) }, "MisalignedSlice"],
    ["a tensor called __metadata__", "__metadata__", tensor("F32", 4), "InvalidTensorName"],
    ["a name that UTF-8 cannot store", "\ud800", tensor("F32", 4), "InvalidHeader"],
  ];
  for (const [what, name, bad, error] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(() => writeSafetensors(new Map([[name, bad]]), new Map()), {
        name: "FormatError",
        message: new RegExp(`^${error}: `),
      });
    });
  }

  it("refuses a header beyond 100 MB", () => {
    const long = new Map([["k", "x".repeat(100_000_000)]]);
    assert.throws(() => writeSafetensors(new Map(), long), /^FormatError: HeaderTooLarge/);
  });
});

describe("asFloat32", () => {
  const bitsOfFloats = (values: Float32Array) => [...new Uint32Array(values.slice().buffer)];
  const specials = Uint32Array.of(
    0x80000000,
    0x7fc00000,
    0xffc12345,
    0x7f812345,
    0x7f800000,
    0xff800000,
    1,
    0x3f800000,
  );

  it("keeps every bit of F32 through a file: NaN payloads, signalling NaN, -0, infinities, subnormals", () => {
    const tensor = float32Tensor([8], new Float32Array(specials.buffer));
    const read = readSafetensors(writeSafetensors(new Map([["t", tensor]]), new Map()));
    assert.deepEqual(bitsOfFloats(asFloat32(read.tensors.get("t")!)), [...specials]);
  });

  it("reads at any alignment, from a Buffer too", () => {
    for (const dtype of ["F32", "F64", "F16", "BF16"] as const) {
      const bytes = Uint8Array.from({ length: 16 }, (_, i) => (i * 11) & 0x3f);
      const expected = asFloat32({ dtype, shape: [], data: bytes });
      for (let shift = 1; shift < 8; shift++) {
        const moved = Buffer.from(new ArrayBuffer(24));
        moved.set(bytes, shift);
        assert.deepEqual(asFloat32({ dtype, shape: [], data: moved.subarray(shift, shift + 16) }), expected);
      }
    }
  });

  it("is a view of aligned F32", () => {
    const values = new Float32Array([1, 2]);
    assert.equal(asFloat32(float32Tensor([2], values)).buffer, values.buffer);
  });

  it("widens all 65,536 halves exactly", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const got = asFloat32({ dtype: "F16", shape: [65536], data: new Uint8Array(halves.buffer) });
    for (let half = 0; half < 65536; half++) {
      const sign = half & 0x8000 ? -1 : 1;
      const exponent = (half >> 10) & 31;
      const mantissa = half & 1023;
      const expected =
        exponent === 31
          ? mantissa
            ? Number.NaN
            : sign * Number.POSITIVE_INFINITY
          : sign * (exponent ? (1024 + mantissa) * 2 ** (exponent - 25) : mantissa * 2 ** -24);
      assert.ok(Object.is(got[half], expected), `half ${half.toString(16)}: ${got[half]}, not ${expected}`);
    }
    assert.equal(bitsOfFloats(got)[0xfe01], 0xffc02000, "a NaN keeps sign and payload");
  });

  it("widens BF16 by its bits and rounds F64 to nearest", () => {
    const bf16 = new Uint8Array(Uint16Array.of(0x3fc0, 0x8000, 0x7fc1, 0x0001).buffer);
    assert.deepEqual(
      bitsOfFloats(asFloat32({ dtype: "BF16", shape: [4], data: bf16 })),
      [0x3fc00000, 0x80000000, 0x7fc10000, 0x10000],
    );
    const f64 = new Uint8Array(Float64Array.of(0.1, -0, 1e300, Number.NaN).buffer);
    assert.deepEqual(
      [...asFloat32({ dtype: "F64", shape: [4], data: f64 })],
      [Math.fround(0.1), -0, Number.POSITIVE_INFINITY, Number.NaN],
    );
  });

  it("refuses integers", () => {
    assert.throws(() => asFloat32({ dtype: "I64", shape: [1], data: zeros(8) }), { code: "ERR_FORMAT" });
  });
});

describe("float16Tensor", () => {
  const halfBits = (values: Float32Array) => new Uint16Array(float16Tensor([values.length], values).data.buffer);
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const singles = asFloat32({ dtype: "F16", shape: [65536], data: new Uint8Array(halves.buffer) });

  it("gives all 65,536 halves back, NaN payloads too", () => {
    assert.deepEqual(halfBits(singles), halves);
  });

  it("rounds to nearest even: around every middle of two neighbours, of either sign", () => {
    for (let half = 0; half < 0x7c00; half++) {
      // What follows the largest half would be 2^16 if there were one more; there it becomes an infinity.
      const [low, high] = [singles[half]!, half === 0x7bff ? 65536 : singles[half + 1]!];
      const middle = (low + high) / 2; // exact in a float: 12 bits
      const bits = new Uint32Array(Float32Array.of(middle).buffer)[0]!;
      const near = new Float32Array(Uint32Array.of(bits - 1, bits, bits + 1).buffer);
      const even = half % 2 === 0 ? half : half + 1;
      assert.deepEqual([...halfBits(near)], [half, even, half + 1], `${middle}`);
      const opposite = halfBits(near.map((x) => -x));
      assert.deepEqual([...opposite], [half | 0x8000, even | 0x8000, (half + 1) | 0x8000], `${-middle}`);
    }
  });

  it("keeps NaN a NaN, and what is out of range goes to 0 or infinity", () => {
    const bits = Uint32Array.of(0x7f800001, 0xffc00000, 0x00000001, 0x80000001, 0x32ffffff, 0x7f7fffff, 0xff7fffff);
    assert.deepEqual([...halfBits(new Float32Array(bits.buffer))], [0x7e00, 0xfe00, 0, 0x8000, 0, 0x7c00, 0xfc00]);
  });
});
