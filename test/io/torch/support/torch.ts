/** Files as torch.save writes them, in both formats, from values of pickle.ts and tensors. */
import { bytes, le } from "./bytes.js";
import { Global, Persistent, pickle, Reduce, Tuple } from "./pickle.js";
import { type ZipEntry, type ZipOptions, zip } from "./zip.js";

const STORAGE_TYPES = {
  F64: "DoubleStorage",
  F32: "FloatStorage",
  F16: "HalfStorage",
  BF16: "BFloat16Storage",
  I64: "LongStorage",
  I32: "IntStorage",
  I16: "ShortStorage",
  I8: "CharStorage",
  U8: "ByteStorage",
  BOOL: "BoolStorage",
} as const;
type StorageDtype = keyof typeof STORAGE_TYPES;

export class Storage {
  constructor(
    readonly key: string,
    readonly dtype: StorageDtype,
    /** Elements. */
    readonly length: number,
    readonly data: Uint8Array,
  ) {}
}

export const orderedDict = new Global("collections", "OrderedDict");
export const rebuild = new Global("torch._utils", "_rebuild_tensor_v2");
export const noHooks = () => new Reduce(orderedDict, new Tuple());
export const storageType = (dtype: StorageDtype) => new Global("torch", STORAGE_TYPES[dtype]);

export function ordered(entries: Iterable<readonly [unknown, unknown]>, attributes?: unknown): Reduce {
  return new Reduce(orderedDict, new Tuple(), {
    items: new Map(entries),
    ...(attributes === undefined ? {} : { state: attributes }),
  });
}

let keys = 0;

export function storage(values: readonly number[], dtype: "F32" | "I64" = "F32", key = String(keys++)): Storage {
  const data = dtype === "F32" ? Float32Array.from(values) : BigInt64Array.from(values, BigInt);
  return new Storage(key, dtype, values.length, new Uint8Array(data.buffer));
}

/** A view of a storage; `view` may tell any lie. */
export function view(
  base: Storage,
  { offset = 0 as unknown, shape = [] as unknown[], strides = [] as unknown[], hooks = noHooks() as unknown } = {},
): Reduce {
  return new Reduce(
    rebuild,
    new Tuple(new Persistent(base), offset, new Tuple(...shape), new Tuple(...strides), false, hooks),
  );
}

export function tensor(shape: readonly number[], values: readonly number[], dtype: "F32" | "I64" = "F32"): Reduce {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  return view(storage(values, dtype), { shape: [...shape], strides });
}

/** The storages in a value, in the order in which they are met. */
function storagesIn(value: unknown, found = new Set<Storage>()): Set<Storage> {
  if (value instanceof Persistent && value.object instanceof Storage) found.add(value.object);
  else if (value instanceof Map) for (const pair of value) for (const part of pair) storagesIn(part, found);
  else if (Array.isArray(value)) for (const item of value) storagesIn(item, found);
  else if (value instanceof Tuple) for (const item of value.items) storagesIn(item, found);
  else if (value instanceof Reduce) {
    const { items = new Map(), list = [], state } = value.more;
    for (const part of [value.callee, value.args, items, list, state]) storagesIn(part, found);
  }
  return found;
}

const idOf =
  (...behind: unknown[]) =>
  (object: unknown): unknown => {
    if (!(object instanceof Storage)) return object;
    return new Tuple("storage", storageType(object.dtype), object.key, "cpu", object.length, ...behind);
  };

export interface SaveOptions {
  protocol?: number;
  zip?: ZipOptions;
  /** The entries, before they are written. */
  edit?: (entries: ZipEntry[]) => ZipEntry[];
}

export function pickled(value: unknown, protocol = 2): Uint8Array {
  return pickle(value, { protocol, idOf: idOf() });
}

export function zipEntries(pickle: Uint8Array, storages: Iterable<Storage>): ZipEntry[] {
  return [
    { name: "model/data.pkl", data: pickle },
    ...[...storages].map(({ key, data }) => ({ name: `model/data/${key}`, data })),
    { name: "model/version", data: bytes("3\n") },
  ];
}

/** The default format. */
export function saveZip(value: unknown, { protocol = 2, zip: options, edit = (e) => e }: SaveOptions = {}): Uint8Array {
  return zip(edit(zipEntries(pickled(value, protocol), storagesIn(value))), options);
}

export const MAGIC = 0x1950a86a20f9469cfc6cn;
export const SYSTEM = new Map<string, unknown>([
  ["protocol_version", 1001],
  ["little_endian", true],
  ["type_sizes", new Map(Object.entries({ short: 2, int: 4, long: 4 }))],
]);

export interface LegacyParts {
  magic?: unknown;
  protocolVersion?: unknown;
  system?: unknown;
  keys?: unknown;
  /** Each storage's bytes, its count before them. */
  payload?: Uint8Array;
  after?: Uint8Array;
}

/** `_use_new_zipfile_serialization=False`. */
export function saveLegacy(value: unknown, { protocol = 2 } = {}, parts: LegacyParts = {}): Uint8Array {
  const storages = [...storagesIn(value)].sort((a, b) => (a.key < b.key ? -1 : 1));
  const { magic = MAGIC, protocolVersion = 1001, system = SYSTEM, keys = storages.map(({ key }) => key) } = parts;
  const payload = parts.payload ?? bytes(storages.map(({ length, data }) => [le(length, 8), data]));
  const pickles = [magic, protocolVersion, system].map((part) => pickle(part, { protocol }));
  return bytes(
    pickles,
    pickle(value, { protocol, idOf: idOf(null) }),
    pickle(keys, { protocol }),
    payload,
    parts.after ?? [],
  );
}
