/** Files made to harm: each is refused by a FormatError that says why, in little memory. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FormatError } from "../../../src/errors.js";
import { readCheckpoint } from "../../../src/io/torch/checkpoint.js";
import { bytes, le, type Part } from "./support/bytes.js";
import { largestAllocation } from "./support/memory.js";
import { namespace } from "./support/network.js";
import { Float, Global, Persistent, Raw, Reduce, Tuple } from "./support/pickle.js";
import {
  noHooks,
  ordered,
  pickled,
  rebuild,
  type SaveOptions,
  Storage,
  saveLegacy,
  saveZip,
  storage,
  storageType,
  tensor,
  view,
  zipEntries,
} from "./support/torch.js";
import { type ZipEntry, zip } from "./support/zip.js";

const good = () => ordered([["weight", tensor([2], [1, 2])]]);
const base = storage([1, 2, 3, 4, 5, 6]);
/** A state dict that holds `value` as its one tensor. */
const holding = (value: unknown) => saveZip(ordered([["weight", value]]));
/** A file whose pickle is these bytes. */
const raw = (...parts: Part[]) => zip(zipEntries(bytes(parts), []));
const shell = new Reduce(new Global("os", "system"), new Tuple("id"));
const zipped = (options: SaveOptions["zip"]) => saveZip(good(), { zip: options! });
/** The second entry is the storage. */
const edited = (edit: Partial<ZipEntry>, at = 1) =>
  saveZip(good(), { edit: (entries) => entries.map((entry, i) => (i === at ? { ...entry, ...edit } : entry)) });
const added = (...more: ZipEntry[]) => saveZip(good(), { edit: (entries) => [...entries, ...more] });
const named = (name: string | Uint8Array) => added({ name, data: bytes("x") });
const rebuilt = (...args: unknown[]) => holding(new Reduce(rebuild, new Tuple(...args)));
const persistent = (...id: unknown[]) =>
  rebuilt(new Persistent(new Tuple(...id)), 0, new Tuple(1), new Tuple(1), false, noHooks());

type Attack = readonly [name: string, file: () => Uint8Array, reason: RegExp];

const CONTAINER: Attack[] = [
  ["an empty file", () => bytes(), /malformed: it needs 1 more/],
  ["text", () => bytes("<!DOCTYPE html>"), /malformed/],
  ["the first bytes of a zip", () => bytes("PK\x03\x04"), /end record is missing/],
  ["an empty archive", () => zip([]), /no data\.pkl/],
  ["a truncated archive", () => saveZip(good()).slice(0, -30), /end record is missing/],
  ["bytes before the archive", () => zipped({ before: "#!/bin/sh\n" }), /malformed/],
  ["a zip header before the archive", () => zipped({ before: "PK\x03\x04" }), /leave a gap/],
  ["bytes behind the archive", () => zipped({ after: "x" }), /end record is missing/],
  ["a second archive behind the first", () => bytes(saveZip(good()), saveZip(good())), /locator points/],
  ["an archive comment", () => zipped({ comment: "PK\x05\x06" }), /end record is missing/],
  ["bytes between two entries", () => edited({ before: "xx" }), /leave a gap/],
  ["bytes before the directory", () => zipped({ gap: "xx" }), /2 stray bytes/],
  ["bytes behind the directory", () => zipped({ behindDirectory: "xx" }), /2 bytes beyond/],
  ["overlapping entries", () => edited({ central: { offset: 0 } }), /overlap/],
  ["an entry beyond the file", () => edited({ central: { offset: 0x7fffffff } }), /leave a gap/],
  [
    "an entry that reaches into the directory",
    () => edited({ central: { size: 9999, compressed: 9999 } }),
    /reaches into/,
  ],
  ["two entries of one name", () => named("model/data.pkl"), /there twice/],
  ["names that differ in case", () => named("model/DATA.PKL"), /there twice/],
  ["a path that leads out", () => named("model/../../etc/passwd"), /no plain path/],
  ["an absolute path", () => named("/etc/passwd"), /no plain path/],
  ["a drive", () => named("C:/autoexec.bat"), /no plain path/],
  ["a path of Windows", () => named("model\\..\\x"), /no plain path/],
  ["a zero in a name", () => named("model/data.pkl\0.txt"), /no plain path/],
  ["a folder as entry", () => named("model/data/"), /no plain path/],
  ["no name", () => named(""), /no plain path/],
  ["a name that is not UTF-8", () => named(bytes(0xff, 0xfe)), /not UTF-8/],
  [
    "a name of undeclared encoding",
    () => added({ name: "model/é", data: bytes(), both: { flags: 0 } }),
    /does not say/,
  ],
  ["a second folder", () => named("other/data.pkl"), /single folder/],
  ["an encrypted entry", () => edited({ both: { flags: 0x809 } }), /encrypted/],
  ["an entry encrypted in the directory only", () => edited({ central: { flags: 0x809 } }), /encrypted/],
  ["an entry encrypted in its header only", () => edited({ local: { flags: 0x809 } }), /contradicts/],
  ["strong encryption", () => edited({ both: { flags: 0x848 } }), /unknown flags/],
  ["a patch entry", () => edited({ both: { flags: 0x828 } }), /unknown flags/],
  ["a deflated entry", () => edited({ both: { method: 8 } }), /compressed \(method 8\)/],
  ["deflated in the header only", () => edited({ local: { method: 8 } }), /contradicts/],
  ["a wrong checksum", () => edited({ central: { crc: 1 }, descriptor: { crc: 1 } }), /another checksum/],
  ["a wrong checksum in the descriptor", () => edited({ descriptor: { crc: 1 } }), /descriptor that contradicts/],
  ["a wrong size in the descriptor", () => edited({ descriptor: { size: 4 } }), /descriptor that contradicts/],
  [
    "no descriptor where one is announced",
    () => edited({ descriptor: { signature: 0 } }),
    /descriptor that contradicts/,
  ],
  [
    "a header with another size",
    () => edited({ local: { crc: 1, size: 4, compressed: 4 } }),
    /header that contradicts/,
  ],
  ["a header with another name", () => edited({ local: { name: "model/data/X" } }), /contradicts/],
  ["a header with another time", () => edited({ local: { time: 1 } }), /contradicts/],
  ["two sizes", () => edited({ central: { compressed: 4 } }), /two sizes differ/],
  ["an entry in another file", () => edited({ central: { disk: 1 } }), /another file/],
  ["an entry's comment", () => edited({ central: { comment: "x" } }), /comment/],
  ["a size from a zip64 field", () => edited({ both: { extra: [le(1, 2), le(8, 2), le(8, 8)] } }), /extra field 0x1/],
  ["a size left to zip64", () => edited({ central: { size: 0xffffffff, compressed: 0xffffffff } }), /beyond 4 GiB/],
  [
    "another name in a Unicode field",
    () => edited({ both: { extra: [le(0x7075, 2), le(0, 2)] } }),
    /extra field 0x7075/,
  ],
  ["half an extra field", () => edited({ both: { extra: "FB" } }), /half an extra/],
  ["an extra field longer than its room", () => edited({ both: { extra: ["FB", le(9, 2)] } }), /cut off/],
  ["a split archive", () => zipped({ end: { disk: 1 } }), /split/],
  ["a count of entries too high", () => zipped({ zip64: false, end: { count: 9, countHere: 9 } }), /no entry at/],
  ["a count of entries too low", () => zipped({ zip64: false, end: { count: 1, countHere: 1 } }), /beyond its 1/],
  ["two counts of entries", () => zipped({ end: { countHere: 1 } }), /two counts/],
  ["a directory elsewhere", () => zipped({ zip64: false, end: { begin: 0 } }), /directory should lie/],
  ["zip64 with another count", () => zipped({ end64: { count: 2, countHere: 2 } }), /contradicts/],
  ["zip64 with two counts", () => zipped({ end64: { countHere: 2 } }), /two counts/],
  ["zip64 with another directory", () => zipped({ end64: { begin: 0 } }), /contradicts/],
  ["zip64 with a directory beyond 2^53", () => zipped({ end64: { begin: 2n ** 63n } }), /contradicts/],
  ["zip64 of unknown length", () => zipped({ end64: { length: 45 } }), /unknown length/],
  ["zip64 that is split", () => zipped({ end64: { disk: 1 } }), /split/],
  ["a zip64 locator that points elsewhere", () => zipped({ locator: { place: 0 } }), /locator points/],
  ["a zip64 locator of two files", () => zipped({ locator: { disks: 2 } }), /split/],
  ["a TorchScript program", () => named("model/constants.pkl"), /TorchScript/],
  ["a big-endian file", () => added({ name: "model/byteorder", data: bytes("big") }), /big-endian/],
  ["bytes behind the pickle", () => zip(zipEntries(bytes(pickled(1), "x"), [])), /1 stray bytes/],
  ["a storage that is missing", () => saveZip(good(), { edit: (e) => e.filter((_, i) => i !== 1) }), /is missing/],
  ["a storage nothing refers to", () => named("model/data/999"), /Nothing refers/],
  ["a storage that is too short", () => edited({ data: bytes(1, 2, 3, 4) }), /should have 8 bytes/],
  ["a storage that is too long", () => edited({ data: bytes(Array(12).fill(0)) }), /should have 8 bytes/],
];

const LEGACY: Attack[] = [
  ["another magic number", () => saveLegacy(good(), {}, { magic: 1 }), /magic number/],
  ["another protocol", () => saveLegacy(good(), {}, { protocolVersion: 1002 }), /protocol 1001/],
  [
    "a big-endian machine",
    () => saveLegacy(good(), {}, { system: new Map([["little_endian", false]]) }),
    /little-endian/,
  ],
  ["no system", () => saveLegacy(good(), {}, { system: shell }), /little-endian/],
  ["no list of storages", () => saveLegacy(good(), {}, { keys: shell }), /list of storages/],
  ["code in the list of storages", () => saveLegacy(good(), {}, { keys: [shell] }), /has an object of "os.system"/],
  ["a storage nothing refers to", () => saveLegacy(good(), {}, { keys: ["999"] }), /Nothing refers/],
  ["no storage", () => saveLegacy(good(), {}, { keys: [] }), /is missing/],
  [
    "another count of elements",
    () => saveLegacy(good(), {}, { payload: bytes(le(3, 8), Array(12).fill(0)) }),
    /2 elements, it has 3/,
  ],
  ["a count beyond any file", () => saveLegacy(good(), {}, { payload: bytes(le(2n ** 63n, 8)) }), /2 elements/],
  ["half a storage", () => saveLegacy(good(), {}, { payload: bytes(le(2, 8), 1, 2, 3) }), /should have 8 bytes/],
  ["an end before the storages", () => saveLegacy(good(), {}, { payload: bytes() }), /file ends before/],
  ["bytes behind the storages", () => saveLegacy(good(), {}, { after: bytes("x") }), /1 stray bytes/],
  [
    "one storage twice",
    () => {
      const [a, b] = [storage([1], "F32", "a"), storage([2], "F32", "b")];
      const value = ordered([a, b].map((s, i) => [`w${i}`, view(s, { shape: [1], strides: [1] })]));
      return saveLegacy(value, {}, { keys: ["a", "a"] });
    },
    /there twice/,
  ],
];

const MACHINE: Attack[] = [
  ["no pickle", () => raw(), /needs 1 more/],
  ["no end", () => raw("}"), /needs 1 more/],
  ["an end with nothing made", () => raw("."), /empty stack/],
  ["an end with values left over", () => raw("}}."), /left over/],
  ["an end inside a mark", () => raw("(}."), /left over/],
  ["an unknown opcode", () => raw(0xff, "."), /0xff is no opcode/],
  ["protocol 6", () => raw(0x80, 6, "}."), /protocol 6/],
  ["a protocol in the middle", () => raw("}", 0x80, 2, "."), /in the middle/],
  ["a frame longer than the file", () => raw(0x80, 4, 0x95, le(2n ** 63n, 8), "}."), /frame is longer/],
  ["a list appended to nothing", () => raw("Na."), /empty stack/],
  ["a tuple without its mark", () => raw("NNt."), /mark is missing/],
  ["a tuple of three from two", () => raw("NN", 0x87, "."), /3 values from a shorter/],
  ["a pop beyond a mark", () => raw("N(R."), /2 values from a shorter/],
  ["a key without value", () => raw("}(Nu."), /lacks its value/],
  ["a list as key", () => raw("}]Ns."), /List as a key/],
  ["a key twice", () => raw("}(NNNNu."), /key twice/],
  ["items of a number", () => raw("K\x01NNs."), /sets items of a number/],
  ["an appended tuple", () => raw(")Na."), /appends to Tuple/],
  ["an unknown memo", () => raw("h\x05."), /never memoised/],
  ["a memo that is no number", () => raw("Np-1\n."), /no place in the memo/],
  ["an integer of 2 GiB", () => raw(0x8b, le(0x7fffffff, 4), "."), /2147483647 bytes/],
  ["an integer of 256 bytes", () => raw(0x8b, le(256, 4), Array(256).fill(1), "."), /256 bytes/],
  ["an integer of a negative length", () => raw(0x8b, le(-1, 4), "."), /4294967295 bytes/],
  ["a decimal integer of a million digits", () => raw("L", "9".repeat(1_000_000), "L\n."), /too long/],
  ["an integer that is none", () => raw("I1_000\n."), /no integer/],
  ["a float that is code", () => raw("F__import__('os')\n."), /no number/],
  ["a line without end", () => raw("cos"), /no end/],
  ["a text longer than the file", () => raw("X", le(9, 4), "a."), /needs 9 more/],
  ["a text of 2^63 bytes", () => raw(0x8d, le(2n ** 63n, 8), "."), /a text has/],
  ["bytes of 2^63 bytes", () => raw(0x8e, le(2n ** 63n, 8), "."), /more bytes, the file has/],
  ["a text that is not UTF-8", () => raw("X", le(2, 4), 0xc3, 0x28, "."), /not UTF-8/],
  ["a text above the limit", () => raw("X", le(2 ** 20 + 1, 4), new Uint8Array(2 ** 20 + 1), "."), /the most is/],
  ["an impossible character", () => raw("V\\U00110000\n."), /impossible character/],
  ["1001 open marks", () => raw("(".repeat(1001), "."), /nests deeper than 1000/],
  ["tuples 1001 deep", () => raw(")", Array(1001).fill(0x85), "."), /nests deeper than 1000/],
  ["lists 1001 deep", () => raw("]".repeat(1001), "a".repeat(1000), "."), /nests deeper than 1000/],
  ["dicts 1001 deep", () => raw("}N".repeat(1001), "}", "s".repeat(1001), "."), /nests deeper than 1000/],
  ["inert objects 1001 deep", () => raw("cx\ny\n".repeat(1001), "b".repeat(1000), "."), /nests deeper than 1000/],
  ["a million opcodes", () => raw("]".repeat(1_000_001)), /more than 1000000 opcodes/],
  ["arguments that are no tuple", () => raw("cos\nsystem\n]R."), /arguments are List/],
  ["a call of a text", () => raw("X", le(1, 4), "a)R."), /calls a string/],
  ["a call of a dict", () => raw("})R."), /calls Dict/],
  ["a call of a storage type", () => raw("ctorch\nFloatStorage\n)R."), /calls torch\.FloatStorage/],
  [
    "an instance of a function",
    () => raw("ctorch._utils\n_rebuild_tensor_v2\n)", 0x81, "."),
    /instance of torch\._utils\._rebuild_tensor_v2/,
  ],
  ["an instance of a number", () => raw("K\x01)", 0x81, "."), /instance of a number/],
  ["a global of numbers", () => raw("K\x01K\x02", 0x93, "."), /name is no text/],
  ["attributes of a dict", () => raw("}}b."), /attributes of Dict/],
  ["attributes of a global", () => raw("ccollections\nOrderedDict\n}b."), /attributes of collections\.OrderedDict/],
  [
    "attributes of an OrderedDict that are no dict",
    () => raw("ccollections\nOrderedDict\n)R]b."),
    /attributes of OrderedDict to List/,
  ],
  ["POP", () => raw("}N0."), /POP is not needed/],
  ["POP_MARK", () => raw("}(1."), /POP_MARK is not needed/],
  ["DUP", () => raw("}2."), /DUP is not needed/],
  ["INST", () => raw("(ios\nsystem\n."), /INST is not needed/],
  ["OBJ", () => raw("(cos\nsystem\no."), /OBJ is not needed/],
  ["PERSID", () => raw("Pstorage\n."), /PERSID/],
  ["EXT1", () => raw(0x82, 1, "."), /EXT1/],
  ["EXT2", () => raw(0x83, 1, 1, "."), /EXT2/],
  ["EXT4", () => raw(0x84, le(1, 4), "."), /EXT4/],
  ["STRING", () => raw("S'a'\n."), /STRING/],
  ["NEWOBJ_EX", () => raw("cos\nsystem\n)}", 0x92, "."), /NEWOBJ_EX/],
  ["EMPTY_SET", () => raw(0x8f, "."), /EMPTY_SET/],
  ["BYTEARRAY8", () => raw(0x96, le(1, 8), "a."), /BYTEARRAY8/],
  ["NEXT_BUFFER", () => raw(0x97, "."), /NEXT_BUFFER/],
];

const TENSORS: Attack[] = [
  ["beyond its storage", () => holding(view(base, { shape: [7], strides: [1] })), /leaves its storage/],
  [
    "beyond its storage by its offset",
    () => holding(view(base, { offset: 6, shape: [1], strides: [1] })),
    /leaves its storage/,
  ],
  ["beyond its storage by a stride", () => holding(view(base, { shape: [2], strides: [6] })), /leaves its storage/],
  ["of 2^53 elements", () => holding(view(base, { shape: [2 ** 53], strides: [1] })), /_rebuild_tensor_v2 with/],
  [
    "whose size overflows",
    () => holding(view(base, { shape: [2 ** 52, 2 ** 52], strides: [1, 1] })),
    /leaves its storage/,
  ],
  [
    "of 10^12 repeated elements",
    () => holding(view(base, { shape: [1e6, 1e6], strides: [0, 0] })),
    /repeats the elements/,
  ],
  [
    "whose repeated size overflows",
    () => holding(view(base, { shape: Array(64).fill(2 ** 52), strides: Array(64).fill(0) })),
    /repeats the elements/,
  ],
  ["of a negative size", () => holding(view(base, { shape: [-1], strides: [1] })), /_rebuild_tensor_v2 with/],
  ["of a negative stride", () => holding(view(base, { shape: [2], strides: [-1] })), /_rebuild_tensor_v2 with/],
  [
    "of a negative offset",
    () => holding(view(base, { offset: -1, shape: [1], strides: [1] })),
    /_rebuild_tensor_v2 with/,
  ],
  ["of half an element", () => holding(view(base, { shape: [0.5], strides: [1] })), /_rebuild_tensor_v2 with/],
  ["of true elements", () => holding(view(base, { shape: [true], strides: [1] })), /_rebuild_tensor_v2 with/],
  [
    "of NaN elements",
    () => holding(view(base, { shape: [new Float(Number.NaN)], strides: [1] })),
    /_rebuild_tensor_v2 with/,
  ],
  ["with more strides than sizes", () => holding(view(base, { shape: [1], strides: [1, 1] })), /1 sizes and 2 strides/],
  ["of 65 dimensions", () => holding(view(base, { shape: Array(65).fill(1), strides: Array(65).fill(1) })), /65 sizes/],
  [
    "with a text for a storage",
    () => rebuilt("storage", 0, new Tuple(1), new Tuple(1), false, noHooks()),
    /_rebuild_tensor_v2 with a string/,
  ],
  [
    "with a tensor for a storage",
    () => rebuilt(tensor([1], [1]), 0, new Tuple(1), new Tuple(1), false, noHooks()),
    /with Tensor/,
  ],
  ["with a list for sizes", () => rebuilt(new Persistent(base), 0, [1], new Tuple(1), false, noHooks()), /List/],
  ["with too few arguments", () => rebuilt(new Persistent(base)), /with Storage/],
  [
    "with hooks",
    () => holding(view(base, { shape: [1], strides: [1], hooks: ordered([[0, shell]]) })),
    /_rebuild_tensor_v2 with/,
  ],
  ["with code for hooks", () => holding(view(base, { shape: [1], strides: [1], hooks: shell })), /"os\.system"/],
  [
    "with metadata that negates it",
    () => rebuilt(new Persistent(base), 0, new Tuple(1), new Tuple(1), false, noHooks(), new Map([["neg", true]])),
    /_rebuild_tensor_v2 with/,
  ],
  [
    "with attributes",
    () => holding(new Reduce(rebuild, view(base, { shape: [1], strides: [1] }).args, { state: new Map() })),
    /attributes of Tensor/,
  ],
  [
    "with items",
    () => holding(new Reduce(rebuild, view(base, { shape: [1], strides: [1] }).args, { items: new Map([[1, 2]]) })),
    /items of Tensor/,
  ],
  [
    "as a parameter of a number",
    () => holding(new Reduce(new Global("torch._utils", "_rebuild_parameter"), new Tuple(1, true, noHooks()))),
    /_rebuild_parameter with a number/,
  ],
  [
    "in a storage of an unknown type",
    () => persistent("storage", new Global("torch", "QUInt8Storage"), "0", "cpu", 1),
    /something else than a storage/,
  ],
  [
    "in a storage whose type is code",
    () => persistent("storage", shell, "0", "cpu", 1),
    /something else than a storage/,
  ],
  [
    "in a storage whose type is a function",
    () => persistent("storage", rebuild, "0", "cpu", 1),
    /something else than a storage/,
  ],
  [
    "in a storage whose key is a number",
    () => persistent("storage", storageType("F32"), 0, "cpu", 1),
    /something else than a storage/,
  ],
  [
    "in a storage of negative length",
    () => persistent("storage", storageType("F32"), "0", "cpu", -1),
    /something else than a storage/,
  ],
  ["in a storage of 2^53 bytes", () => persistent("storage", storageType("F32"), "0", "cpu", 2 ** 52), /claims/],
  [
    "in a storage that is a view",
    () => persistent("storage", storageType("F32"), "0", "cpu", 1, new Tuple("1", 0, 1)),
    /something else than a storage/,
  ],
  [
    "in a storage outside the folder",
    () => persistent("storage", storageType("F32"), "../version", "cpu", 1),
    /is missing/,
  ],
  ["in a storage named by a text", () => holding(new Persistent("storage")), /something else than a storage/],
  ["in a storage named by an empty tuple", () => holding(new Persistent(new Tuple())), /something else than a storage/],
  ["in a module", () => holding(new Persistent(new Tuple("module", shell, "x.py", "import os"))), /whole modules/],
  [
    "in one storage of two types",
    () => {
      const other = new Storage(base.key, "I32", 6, base.data);
      return saveZip(ordered([base, other].map((s, i) => [`w${i}`, view(s, { shape: [1], strides: [1] })])), {
        edit: (entries) => entries.filter((_, i) => i !== 2),
      });
    },
    /used as two/,
  ],
  [
    "as overlapping views that are large together",
    () =>
      saveZip(
        ordered(
          Array.from({ length: 3000 }, (_, i) => [`w${i}`, view(large, { shape: [100, 100], strides: [1, 100] })]),
        ),
      ),
    /larger than the file/,
  ],
];
const large = storage(Array(10_000).fill(1));

/** Ways to make Python run something, as `__reduce__` of an object would write them. */
const GADGETS: Record<string, unknown> = {
  "os.system": shell,
  "posix.system": new Reduce(new Global("posix", "system"), new Tuple("id")),
  "nt.system": new Reduce(new Global("nt", "system"), new Tuple("dir")),
  "subprocess.Popen": new Reduce(new Global("subprocess", "Popen"), new Tuple(["id"])),
  "builtins.eval": new Reduce(new Global("builtins", "eval"), new Tuple("1")),
  "__builtin__.eval": new Reduce(new Global("__builtin__", "eval"), new Tuple("1")),
  "builtins.exec": new Reduce(new Global("builtins", "exec"), new Tuple("import os")),
  "builtins.compile": new Reduce(new Global("builtins", "compile"), new Tuple("1", "x", "eval")),
  "builtins.getattr": new Reduce(
    new Reduce(new Global("builtins", "getattr"), new Tuple(new Global("os", "path"), "os")),
    new Tuple("system"),
  ),
  "builtins.__import__": new Reduce(new Global("builtins", "__import__"), new Tuple("os")),
  "importlib.import_module": new Reduce(new Global("importlib", "import_module"), new Tuple("os")),
  "runpy._run_code": new Reduce(new Global("runpy", "_run_code"), new Tuple("import os", new Map())),
  "torch.load": new Reduce(new Global("torch", "load"), new Tuple("other.pth")),
  "torch.hub.load": new Reduce(new Global("torch.hub", "load"), new Tuple("x")),
  "functools.partial": new Reduce(new Global("functools", "partial"), new Tuple(new Global("os", "system"), "id")),
  "operator.attrgetter": new Reduce(new Global("operator", "attrgetter"), new Tuple("system")),
  "webbrowser.open": new Reduce(new Global("webbrowser", "open"), new Tuple("http://localhost")),
  "pty.spawn": new Reduce(new Global("pty", "spawn"), new Tuple("sh")),
  "pickle.loads": new Reduce(new Global("pickle", "loads"), new Tuple("x")),
  "__main__.Model": new Reduce(new Global("__main__", "Model"), new Tuple(), { new: true, state: new Map([["a", 1]]) }),
  "sys.modules": new Reduce(new Global("sys", "modules"), new Tuple(), { items: new Map([["torch", 1]]) }),
  "torch._utils._rebuild_sparse_tensor": new Reduce(new Global("torch._utils", "_rebuild_sparse_tensor"), new Tuple(1)),
  // A listed name by another way: only module and name as torch writes them are the listed one.
  "torch._utils._rebuild_tensor_v2": new Reduce(new Global("torch", "_utils._rebuild_tensor_v2"), new Tuple()),
  "collections.OrderedDict.__init__": new Reduce(new Global("collections", "OrderedDict.__init__"), new Tuple()),
};

const PLACES: Record<string, (gadget: unknown) => unknown> = {
  "as the file": (gadget) => gadget,
  "as state_dict": (gadget) => new Map([["state_dict", gadget]]),
  "as a tensor": (gadget) => ordered([["weight", gadget]]),
  "as a tensor's storage": (gadget) =>
    ordered([["weight", new Reduce(rebuild, new Tuple(gadget, 0, new Tuple(1), new Tuple(1), false, noHooks()))]]),
  "as a tensor's size": (gadget) => ordered([["weight", view(base, { shape: [gadget], strides: [1] })]]),
  "as a tensor's name": (gadget) => ordered([[gadget, tensor([1], [1])]]),
  "as an OrderedDict's attributes": (gadget) => ordered([["weight", tensor([1], [1])]], gadget),
};

function refused(file: Uint8Array, reason: RegExp, options = {}): void {
  assert.throws(
    () => readCheckpoint(file, options),
    (error) => {
      assert.ok(error instanceof FormatError, String(error));
      assert.match(error.message, reason);
      assert.ok(error.message.length < 2000, "the message is short");
      return true;
    },
  );
}

describe("readCheckpoint refuses", () => {
  for (const [title, attacks] of Object.entries({ CONTAINER, LEGACY, MACHINE, TENSORS })) {
    describe(title.toLowerCase(), () => {
      for (const [name, file, reason] of attacks) it(name, () => refused(file(), reason));
    });
  }

  for (const [place, put] of Object.entries(PLACES)) {
    it(`code ${place}: ${Object.keys(GADGETS).length} kinds, zip and legacy, protocols 2 and 4`, () => {
      for (const gadget of Object.values(GADGETS)) {
        for (const protocol of [2, 4]) {
          refused(saveZip(put(gadget), { protocol }), /not resolved|_rebuild_tensor_v2 with/);
          refused(saveLegacy(put(gadget), { protocol }), /not resolved|_rebuild_tensor_v2 with/);
        }
      }
    });
  }
});

describe("readCheckpoint", () => {
  it("leaves code beside the weights inert and names it; strict refuses it", () => {
    for (const [name, gadget] of Object.entries(GADGETS)) {
      const value = new Map([
        ["state_dict", good()],
        ["args", namespace({ gadget })],
      ]);
      for (const file of [saveZip(value), saveLegacy(value)]) {
        const { weights, inert } = readCheckpoint(file);
        assert.deepEqual([...weights.get("weight")!.data], [...new Uint8Array(Float32Array.of(1, 2).buffer)]);
        assert.ok(inert.includes(name), `${name} is among ${inert}`);
        refused(file, /strict reading refuses/, { strict: true });
      }
    }
  });

  it("takes dicts and lists that hold themselves", () => {
    const cycle = new Raw("]q", 200, "h", 200, "a");
    assert.deepEqual(
      readCheckpoint(
        saveZip(
          new Map<string, unknown>([
            ["state_dict", good()],
            ["x", cycle],
          ]),
        ),
      ).ignored,
      ["x"],
    );
  });

  it("needs no more memory than the file's size for bytes, and little for values", () => {
    const bombs: Record<string, Uint8Array> = {
      dicts: raw("}".repeat(999_000)),
      lists: raw("]".repeat(999_000)),
      tuples: raw(")", "(t".repeat(499_000)),
      "a memo far out": raw(
        "}",
        Array.from({ length: 100_000 }, (_, i) => ["r", le(0xffffffff - i, 4)]),
      ),
      globals: raw("cx\ny\n".repeat(100_000)),
      "tuples that double": raw(")q\0", "(h\0h\0tq\0".repeat(400), "t"),
      "overlapping views": TENSORS.at(-1)![1](),
      "repeated elements": holding(view(base, { shape: [1e6, 1e6], strides: [0, 0] })),
    };
    for (const [name, file] of Object.entries(bombs)) {
      const before = process.memoryUsage();
      const largest = largestAllocation(() => refused(file, /./));
      const after = process.memoryUsage();
      assert.ok(largest <= file.length, `${name}: ${largest} bytes at once`);
      const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
      assert.ok(grown < 256 << 20, `${name}: ${grown} bytes in all`);
    }
  });
});
