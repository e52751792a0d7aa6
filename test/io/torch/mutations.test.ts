/** A seeded fuzzer: whatever is done to a good file, reading either succeeds within bounds or throws a FormatError. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FormatError } from "../../../src/errors.js";
import { type Checkpoint, readCheckpoint } from "../../../src/io/torch/checkpoint.js";
import { bytes, joined, le, type Part } from "./support/bytes.js";
import { largestAllocation } from "./support/memory.js";
import { namespace } from "./support/network.js";
import { Global, Reduce, Tuple } from "./support/pickle.js";
import { ordered, pickled, saveLegacy, saveZip, storage, view, zipEntries } from "./support/torch.js";
import { zip } from "./support/zip.js";

const MUTATIONS = 100_000;

/** Opcodes and arguments that break rules, or nearly do, where they land. */
const FRAGMENTS: Part[] = [
  ..."(.)]}NQRabcdehjqrstu0123GIKLMX\n",
  ...[0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x92, 0x93, 0x94, 0x95, 0xff],
  ...[
    "cos\nsystem\n",
    "ctorch\nFloatStorage\n",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ccollections\nOrderedDict\n)R",
  ],
  ...[["X", le(7, 4), "storage"], "X\x01\0\0\x000", ["X", le(2 ** 31, 4)], [0x8b, le(2 ** 31, 4)], ["J", le(-1, 4)]],
  ...[
    "M\xff\xff",
    "I-1\n",
    "L9999999999999999999L\n",
    ["h", 0],
    ["h", 1],
    ["q", 0],
    ["r", le(-1, 4)],
    [0x8d, le(-1, 8)],
  ],
  ...["PK\x03\x04", "PK\x01\x02", "PK\x05\x06", le(-1, 4), le(-1, 8), le(0, 8), [0x8a, 9, le(2n ** 64n, 9)]],
];

const base = storage([1, 2, 3, 4, 5, 6], "F32", "0");
const other = storage([7], "I64", "1");
const value = (deep: boolean) => {
  const state = ordered([
    ["w", view(base, { shape: [2, 3], strides: [3, 1] })],
    ["module.t", view(base, { shape: [3, 2], strides: [1, 3] })],
    ["n", view(other)],
  ]);
  if (!deep) return state;
  const scalar = new Reduce(new Global("numpy", "scalar"), new Tuple("f8", 1.5), { state: new Tuple(3, null) });
  return new Map<string, unknown>([
    ["epoch", 2 ** 40],
    ["state_dict", state],
    ["args", namespace({ lr: 0.5, aa: null, list: [1, [2, scalar]] })],
  ]);
};

/** The pickle between what comes before and behind it, so that it can be changed alone and the rest kept right. */
interface Seed {
  pickle: Uint8Array;
  file: Uint8Array;
  around(pickle: Uint8Array): Uint8Array;
}

const seeds: Seed[] = [1, 2, 4].flatMap((protocol) =>
  [false, true].flatMap((deep): Seed[] => {
    const pickle = pickled(value(deep), protocol);
    const legacy = saveLegacy(value(deep), { protocol });
    return [
      { pickle, file: saveZip(value(deep), { protocol }), around: (p) => zip(zipEntries(p, [base, other])) },
      { pickle: legacy, file: legacy, around: (p) => p },
    ];
  }),
);

describe("readCheckpoint", () => {
  it(`survives ${MUTATIONS} mutations: a right answer or a FormatError, in bounded memory`, () => {
    let state = 1;
    const random = (below: number) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    const counts = { accepted: 0, refused: 0 };
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0; // a hundred thousand stacks take longer than all else
    const before = process.memoryUsage.rss();
    try {
      for (let round = 0; round < MUTATIONS; round++) {
        const seed = seeds[random(seeds.length)]!;
        const whole = random(3) === 0;
        const changed = mutate(whole ? seed.file : seed.pickle, random);
        const file = whole ? changed : seed.around(changed);
        const options = { ema: random(8) === 0, strict: random(8) === 0 };
        let read: Checkpoint | undefined;
        const largest = largestAllocation(() => {
          try {
            read = readCheckpoint(file, options);
          } catch (error) {
            if (!(error instanceof FormatError)) throw new Error(`round ${round}: ${String(error)}`, { cause: error });
          }
        });
        assert.ok(largest <= file.length, `round ${round}: ${largest} bytes at once`);
        if (read === undefined) counts.refused++;
        else {
          checkAccepted(read, file);
          counts.accepted++;
        }
      }
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
    const grown = process.memoryUsage.rss() - before;
    assert.ok(grown < 256 << 20, `the process grew by ${grown} bytes`);
    assert.ok(counts.accepted > MUTATIONS / 100, `${counts.accepted} accepted: the mutations are too rough`);
    assert.ok(counts.refused > MUTATIONS / 2, `${counts.refused} refused: the mutations are too mild`);
  });
});

/** One to three edits. */
function mutate(seed: Uint8Array, random: (below: number) => number): Uint8Array {
  let file = seed;
  for (let edits = 1 + random(3); edits > 0; edits--) {
    const at = random(file.length + 1);
    const length = random(4) ? 1 : random(30);
    const [head, tail] = [file.subarray(0, at), file.subarray(at)];
    switch (random(7)) {
      case 0:
        file = joined([head, file.subarray(at + length)]);
        break;
      case 1:
        file = joined([head, FRAGMENT_BYTES[random(FRAGMENT_BYTES.length)]!, file.subarray(at + random(2) * length)]);
        break;
      case 2:
        file = joined([head, file.subarray(at, at + length * 4), tail]);
        break;
      case 3:
        file = random(8) ? file : head;
        break;
      case 4: {
        const from = random(file.length + 1);
        file = joined([head, file.subarray(from, from + length * 2), tail]);
        break;
      }
      default:
        file = joined([file]);
        if (at < file.length) file[at] = random(2) ? file[at]! ^ (1 << random(8)) : random(256);
    }
  }
  return file;
}

const FRAGMENT_BYTES = FRAGMENTS.map((fragment) => bytes(fragment));

const WIDTHS: Record<string, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** Whatever came of it, each tensor has the bytes its shape needs, in the file or no larger than it. */
function checkAccepted({ weights, facts }: Checkpoint, file: Uint8Array): void {
  for (const [name, { dtype, shape, data }] of weights) {
    assert.equal(typeof name, "string");
    assert.equal(data.length, shape.reduce((a, b) => a * b, 1) * WIDTHS[dtype]!, name);
    assert.ok(data.length <= file.length);
  }
  for (const fact of facts.values()) assert.ok(["string", "number", "boolean"].includes(typeof fact));
}
