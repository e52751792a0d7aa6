/** The globals that a torch file needs for its weights, and what this reader makes of them. All others are inert. */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import { isIndex, Storage, type StorageDtype, Tensor } from "./tensor.js";
import { Dict, Known, kindOf, OrderedDict, Tuple } from "./values.js";

const STORAGES: Record<string, StorageDtype> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

const DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"];

const KNOWN = new Map(
  [
    new Known("collections", "OrderedDict", (args) => {
      expect(args.length === 0, "OrderedDict", args);
      return new OrderedDict();
    }),
    new Known("torch", "Size", (args) => {
      expect(args.length === 1 && args[0] instanceof Tuple, "torch.Size", args);
      return args[0];
    }),
    new Known("torch", "device", (args) => {
      expect(typeof args[0] === "string" && (args.length === 1 || isIndex(args[1])), "torch.device", args);
      return args[0];
    }),
    new Known("torch._utils", "_rebuild_tensor_v2", rebuildTensor),
    new Known("torch._utils", "_rebuild_parameter", (args) => {
      const [tensor, requiresGrad, hooks] = args;
      const fits = tensor instanceof Tensor && typeof requiresGrad === "boolean" && isEmptyDict(hooks);
      expect(fits && args.length === 3, "_rebuild_parameter", args);
      return tensor;
    }),
    ...Object.entries(STORAGES).map(([name, dtype]) => new Known("torch", name, undefined, dtype)),
    ...DTYPES.map((name) => new Known("torch", name)),
  ].map((known) => [`${known.module} ${known.name}`, known]),
);

/** Undefined where it is not on the list. */
export function knownGlobal(module: string, name: string): Known | undefined {
  return KNOWN.get(`${module} ${name}`);
}

function expect(fits: boolean, name: string, args: readonly unknown[]): asserts fits {
  if (!fits) throw new FormatError(`The pickle calls ${name} with ${kindsOf(args)}.`);
}

function kindsOf(values: readonly unknown[]): string {
  return values.slice(0, 10).map(kindOf).join(", ") || "nothing";
}

/** Hooks are code: only none at all are accepted. */
function isEmptyDict(value: unknown): boolean {
  return value instanceof Dict && value.entries.size === 0;
}

/** (storage, offset, sizes, strides, requires_grad, hooks[, metadata]); metadata would change the values. */
function rebuildTensor(args: readonly unknown[]): Tensor {
  const [storage, offset, shape, strides, requiresGrad, hooks, metadata = null] = args;
  const fits =
    storage instanceof Storage &&
    isIndex(offset) &&
    shape instanceof Tuple &&
    shape.items.every(isIndex) &&
    strides instanceof Tuple &&
    strides.items.every(isIndex) &&
    typeof requiresGrad === "boolean" &&
    isEmptyDict(hooks) &&
    (metadata === null || isEmptyDict(metadata)) &&
    args.length <= 7;
  expect(fits, "_rebuild_tensor_v2", args);
  return new Tensor(storage, offset, shape.items as number[], strides.items as number[]);
}

/**
 * The storage that a persistent id names: ("storage", type, key, device, elements), in the older format with None behind.
 * The same key gives the same storage.
 */
export function storageOf(id: unknown, storages: Map<string, Storage>): Storage {
  const parts = id instanceof Tuple ? id.items : [];
  const [tag, type, key, device, length, view = null] = parts;
  if (tag === "module") {
    throw new FormatError("The file holds whole modules, not weights: store model.state_dict() instead.");
  }
  const dtype = type instanceof Known ? type.dtype : undefined;
  const fits = tag === "storage" && typeof key === "string" && typeof device === "string" && isIndex(length);
  if (!fits || dtype === undefined || view !== null || parts.length > 6) {
    throw new FormatError(`The pickle refers to something else than a storage: ${kindOf(id)} of ${kindsOf(parts)}.`);
  }
  const known = storages.get(key);
  if (known === undefined) {
    const storage = new Storage(key, dtype, length);
    storages.set(key, storage);
    return storage;
  }
  if (known.dtype !== dtype || known.length !== length) {
    throw new FormatError(
      `Storage ${quote(key)} is used as two: ${known.dtype} × ${known.length}, ${dtype} × ${length}.`,
    );
  }
  return known;
}
