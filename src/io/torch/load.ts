/** Files of torch.save: a zip archive with a pickle and its storages, or the older format, pickles and storages in a row. */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import { type Context, unpickle } from "./unpickle.js";
import { Dict, kindOf, List } from "./values.js";
import { readZip } from "./zip.js";

export interface TorchFile {
  format: "zip" | "legacy";
  /** What was saved. Tensors in it are checked against their storages, whose bytes are views of the file. */
  value: unknown;
  /** Globals that were not resolved, as `module.name`, sorted. */
  inert: string[];
}

export interface TorchOptions {
  /** Refuse every global that is not needed for weights, wherever it stands. Default: leave it inert. */
  strict?: boolean;
}

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/** Reads a file of torch.save. Nothing in it is run. Memory beyond the file's bytes is bounded. */
export function readTorch(bytes: Uint8Array, { strict = false }: TorchOptions = {}): TorchFile {
  const context: Context = { strict, storages: new Map(), inert: new Set() };
  const zip = bytes[0] === 0x50 && bytes[1] === 0x4b; // PK
  const value = zip ? readArchive(readZip(bytes), context) : readLegacy(bytes, context);
  return { format: zip ? "zip" : "legacy", value, inert: [...context.inert].sort() };
}

function readArchive(entries: Map<string, Uint8Array>, context: Context): unknown {
  const folder = [...entries.keys()][0]?.split("/")[0];
  if ([...entries.keys()].some((name) => !name.startsWith(`${folder}/`))) {
    throw new FormatError("The zip archive should hold a single folder.");
  }
  const pickle = entries.get(`${folder}/data.pkl`);
  if (pickle === undefined) throw new FormatError("The zip archive holds no data.pkl: it is not from torch.save.");
  if (entries.has(`${folder}/constants.pkl`)) {
    throw new FormatError("The file is a TorchScript program: store the model's state_dict() with torch.save instead.");
  }
  const order = entries.get(`${folder}/byteorder`);
  if (order !== undefined && String.fromCharCode(...order.subarray(0, 10)) !== "little") {
    throw new FormatError("The file was written on a big-endian machine, which is not supported.");
  }
  const { value, end } = unpickle(pickle, 0, context);
  if (end !== pickle.length) throw new FormatError(`Behind the pickle are ${pickle.length - end} stray bytes.`);

  for (const storage of context.storages.values()) {
    const data = entries.get(`${folder}/data/${storage.key}`);
    if (data === undefined) throw new FormatError(`Storage ${quote(storage.key)} is missing.`);
    storage.data = data;
  }
  for (const name of entries.keys()) {
    const key = name.slice(`${folder}/data/`.length);
    if (name.startsWith(`${folder}/data/`) && !context.storages.has(key)) {
      throw new FormatError(`Nothing refers to storage ${quote(key)}.`);
    }
  }
  return value;
}

function readLegacy(bytes: Uint8Array, context: Context): unknown {
  let at = 0;
  const next = (): unknown => {
    const { value, end } = unpickle(bytes, at, context);
    at = end;
    return value;
  };
  if (next() !== MAGIC) throw new FormatError("The pickle does not begin with torch's magic number.");
  const protocol = next();
  if (protocol !== PROTOCOL) throw new FormatError(`The file is not of torch's protocol ${PROTOCOL}.`);
  const system = next();
  if (!(system instanceof Dict) || system.entries.get("little_endian") !== true) {
    throw new FormatError("The file does not say that it is little-endian; others are not supported.");
  }
  const value = next();
  const keys = next();
  if (!(keys instanceof List)) throw new FormatError("The list of storages is missing.");

  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const key of keys.items) {
    if (typeof key !== "string") throw new FormatError(`The list of storages has ${kindOf(key)} in it.`);
    const storage = context.storages.get(key);
    if (storage === undefined) throw new FormatError(`Nothing refers to storage ${quote(key)}.`);
    if (storage.data !== undefined) throw new FormatError(`Storage ${quote(storage.key)} is there twice.`);
    if (at + 8 > bytes.length) throw new FormatError(`The file ends before storage ${quote(storage.key)}.`);
    const length = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    if (length !== storage.length) {
      throw new FormatError(`Storage ${quote(storage.key)} should have ${storage.length} elements, it has ${length}.`);
    }
    storage.data = bytes.subarray(at + 8, at + 8 + storage.byteLength);
    at += 8 + storage.byteLength;
  }
  for (const { key, data } of context.storages.values()) {
    if (data === undefined) throw new FormatError(`Storage ${quote(key)} is missing.`);
  }
  if (at !== bytes.length) throw new FormatError(`Behind the last storage are ${bytes.length - at} stray bytes.`);
  return value;
}
