/** A seeded fuzzer: whatever is done to a good file, reading either succeeds rightly or throws a FormatError. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FormatError } from "../../src/errors.js";
import { readSafetensors, type SafetensorsFile, writeSafetensors } from "../../src/io/safetensors.js";
import { craft, entry } from "./craft.js";

const MUTATIONS = 100_000;

/** Fragments that break rules, or nearly do, where they land. */
const FRAGMENTS = [
  ...'{}[]:," \n\\0-.e9',
  "__metadata__",
  "__proto__",
  '"dtype":"F32",',
  '"shape":[]',
  "data_offsets",
  "null",
  "true",
  "1e1",
  "-0",
  "00",
  "9007199254740991",
  "9007199254740992",
  "18446744073709551616",
  "99999999999999999999999",
  "\\ud800",
  "\\u0000",
  "\\",
  "\u0000",
  "\ufeff",
  "😀",
  '"F4"',
  '"BF16"',
  '"U8"',
  ',"a":1',
  "[0,0]",
  "[0,8]",
  "[8,0]",
];

const SEEDS = [
  craft(
    `{"__metadata__":{"format":"pt","k":"v"},${entry("w", "F32", "[2,1]", 0, 8)},${entry("b", "U8", "[3]", 8, 11)}}`,
    Array(11).fill(1),
  ),
  craft(
    `{${entry("a.b", "F4", "[4]", 0, 2)},${entry("é\\n", "I64", "[0,7]", 2, 2)},${entry("s", "F16", "[]", 2, 4)}}  `,
    Array(4).fill(1),
  ),
  craft(
    `  {${entry("x", "BOOL", "[1]", 0, 1)},${entry("y", "BOOL", "[1]", 1, 2)},${entry("z", "BOOL", "[1]", 2, 3)}}`,
    Array(3).fill(1),
  ),
];

describe("readSafetensors", () => {
  it(`survives ${MUTATIONS} mutations: a right answer or a FormatError, nothing else`, () => {
    let state = 1;
    const random = (below: number) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    let accepted = 0;
    let refused = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      const file = mutate(SEEDS[random(SEEDS.length)]!, random);
      let read: SafetensorsFile;
      try {
        read = readSafetensors(file);
      } catch (error) {
        if (!(error instanceof FormatError)) throw new Error(`round ${round}: ${String(error)}`, { cause: error });
        refused++;
        continue;
      }
      checkAccepted(file, read);
      accepted++;
    }
    assert.ok(accepted > MUTATIONS / 100, `${accepted} accepted: the mutations are too rough to test the inner rules`);
    assert.ok(refused > MUTATIONS / 2, `${refused} refused: the mutations are too mild`);
  });
});

/** One to three edits, mostly of the header's text with the length kept right, so that the later rules are reached. */
function mutate(seed: Uint8Array, random: (below: number) => number): Uint8Array {
  const headerBytes = new DataView(seed.buffer, seed.byteOffset).getUint32(0, true);
  const encoder = new TextEncoder();
  let header = new TextDecoder().decode(seed.subarray(8, 8 + headerBytes));
  let file: Uint8Array = seed;
  const data = [...seed.subarray(8 + headerBytes)];
  for (let edits = 1 + random(3); edits > 0; edits--) {
    const at = random(header.length + 1);
    const length = random(4) ? 1 : random(30);
    const digits = [...header.matchAll(/\d+/g)];
    switch (random(9)) {
      case 0:
        header = header.slice(0, at) + header.slice(at + length);
        break;
      case 1:
        header = header.slice(0, at) + FRAGMENTS[random(FRAGMENTS.length)] + header.slice(at + random(2) * length);
        break;
      case 2:
        header = header.slice(0, at) + header.slice(at, at + length * 4) + header.slice(at);
        break;
      case 3:
      case 4: {
        const match = digits[random(Math.max(1, digits.length))];
        if (!match) break;
        header = header.slice(0, match.index) + random(9) + header.slice(match.index + match[0].length);
        break;
      }
      case 5:
        if (random(2)) data.push(random(256));
        else data.pop();
        break;
      case 6:
        header = header.replace(/"[FUIB][A-Z]*\d*"/, `"${["F32", "F64", "U8", "F4", "F6_E2M3", "C64"][random(6)]}"`);
        break;
      case 7:
        header += [" ", "\n", "}", "\0"][random(4)];
        break;
      default: {
        file = craft(header, data);
        file[random(file.length)]! ^= 1 << random(8);
        if (random(4) === 0) file = file.subarray(0, random(file.length + 1));
        return file;
      }
    }
  }
  return craft(encoder.encode(header), data);
}

/** What is read agrees with JSON.parse, accounts for every byte, and survives a round trip. */
function checkAccepted(file: Uint8Array, read: SafetensorsFile): void {
  const headerBytes = new DataView(file.buffer, file.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)), (key, value) =>
    key === "__proto__" ? undefined : value,
  );
  let bytes = 0;
  for (const [name, { dtype, shape, data }] of read.tensors) {
    assert.equal(data.buffer, file.buffer);
    assert.equal(data.byteOffset - file.byteOffset, 8 + headerBytes + bytes);
    bytes += data.length;
    if (name === "__proto__") continue;
    assert.deepEqual({ dtype, shape }, { dtype: header[name].dtype, shape: header[name].shape });
  }
  assert.equal(8 + headerBytes + bytes, file.length);
  assert.deepEqual(Object.fromEntries(read.metadata), header.__metadata__ ?? {});
  const again = readSafetensors(writeSafetensors(read.tensors, read.metadata));
  assert.deepEqual(new Map([...again.tensors].sort()), new Map([...read.tensors].sort()));
}
