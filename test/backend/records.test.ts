import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import {
  ACT,
  BAND,
  type Call,
  encode,
  type OpName,
  PANEL,
  RECORD_WORDS,
  RECORDS,
  scratchWord,
} from "../../src/backend/records.js";

const header = readFileSync("kernels/dsn.h", "utf8").replace(/\/\*[\s\S]*?\*\//g, "");

/** `OP_CONV_DX = 2` as ["conv_dx", 2], for every constant with the prefix. */
function constants(prefix: string): [string, number][] {
  return [...header.matchAll(new RegExp(`\\b${prefix}_(\\w+) = (\\d+)`, "g"))].map((match) => [
    match[1]!.toLowerCase(),
    Number(match[2]),
  ]);
}

/** Fields of `ConvDxRecord` in order, without the op, each with its C type. */
function structFields(op: string): string[] {
  const name = `${op.replace(/(^|_)(.)/g, (_all, _line, letter: string) => letter.toUpperCase())}Record`;
  const alias = new RegExp(`typedef (\\w+)Record ${name};`).exec(header)?.[1];
  if (alias) return structFields(alias.toLowerCase());
  const body = new RegExp(`typedef struct \\{([^{}]*)\\} ${name};`).exec(header)?.[1];
  assert.ok(body, `dsn.h has no ${name}`);
  const fields = [...body.matchAll(/(\w+) ([\w, ]+);/g)].flatMap(([, type, names]) =>
    names!.split(/,\s*/).map((field) => `${type} ${field}`),
  );
  assert.equal(fields.shift(), "int32_t op");
  return fields;
}

describe("records", () => {
  it("have the op codes of dsn.h", () => {
    const mine = Object.entries(RECORDS).map(([op, { code }]) => [op, code]);
    assert.deepEqual(mine, constants("OP"));
  });

  it("have the activations of dsn.h", () => {
    assert.deepEqual(Object.entries(ACT), constants("ACT"));
  });

  it("have the word count and the panels of dsn.h", () => {
    assert.equal(RECORD_WORDS, Number(/DSN_RECORD_WORDS = (\d+)/.exec(header)?.[1]));
    assert.equal(PANEL, Number(/DSN_PANEL = (\d+)/.exec(header)?.[1]));
    assert.equal(BAND, Number(/DSN_BAND = (\d+)/.exec(header)?.[1]));
  });

  for (const [op, { offsets, ints, floats }] of Object.entries(RECORDS)) {
    if (op === "end") continue;
    it(`${op}: fields in the order and of the types of dsn.h, and within a record`, () => {
      const mine = [
        ...offsets.map((field) => `Off ${field}`),
        ...ints.map((field) => `int32_t ${field}`),
        ...floats.map((field) => `float ${field}`),
      ].map((field) => field.replace("?", ""));
      assert.deepEqual(mine, structFields(op));
      assert.ok(mine.length < RECORD_WORDS);
    });
  }

  it("are encoded word by word, absent fields as 0", () => {
    const f32 = new Float32Array(2 * RECORD_WORDS).fill(7);
    const i32 = new Int32Array(f32.buffer);
    const call: Call = {
      op: "sgd",
      p: 2 ** 31 + 64,
      g: 128,
      m: 192,
      count: 5,
      nesterov: 1,
      lr: 0.5,
      momentum: -1,
      decay: 2,
    };
    encode(i32, f32, RECORD_WORDS, call);
    const at = RECORD_WORDS;
    assert.deepEqual([...new Uint32Array(f32.buffer).subarray(at, at + 6)], [21, 2 ** 31 + 64, 128, 192, 5, 1]);
    assert.deepEqual([...f32.subarray(at + 6, at + 9)], [0.5, -1, 2]);
    encode(i32, f32, at, { op: "affine", x: 64, y: 64, n: 1, hw: 2, c: 3 });
    assert.deepEqual([...i32.subarray(at, at + 10)], [12, 64, 64, 0, 0, 1, 2, 3, 0, 0]);
    assert.equal(f32[RECORD_WORDS - 1], 7);
  });

  it("know the word of the scratch offset", () => {
    const word = (op: OpName) => scratchWord(op);
    assert.equal(word("column_sum"), 3);
    assert.equal(word("fill"), 0);
  });
});
