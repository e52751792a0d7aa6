/**
 * The zip archives that torch.save writes, and no others: entries stored one behind the other from the first byte on, then
 * the directory, then the end. Every byte belongs to exactly one thing and everything said twice is said equally, so no
 * other reader can see another content. Anything else (compressed, encrypted, split, with gaps) is a FormatError.
 * Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
import { FormatError } from "../../errors.js";
import { crc32 } from "../crc32.js";
import { quote } from "../json-scanner.js";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const DESCRIPTOR = 0x08074b50;

/** Bytes of each structure's fixed part. */
const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;
const END_BYTES = 22;
const END_64_BYTES = 56;
const LOCATOR_BYTES = 20;
const DESCRIPTOR_BYTES = 16;

const ENCRYPTED = 1;
/** Checksum and sizes follow the data, as a stream writes them. */
const HAS_DESCRIPTOR = 8;
const UTF8 = 0x800;
/** "FB", the padding with which torch aligns data. */
const PADDING = 0x4246;
/** What a 32-bit field holds whose value is in a zip64 record. */
const SENTINEL = 0xffffffff;

interface Entry {
  name: string;
  nameBytes: Uint8Array;
  flags: number;
  crc: number;
  size: number;
  /** Of the local header. */
  offset: number;
  /** Version needed, flags, method, time and date: what the local header must repeat. */
  common: Uint8Array;
}

/** The entries' bytes by name, as views. Memory beyond that is bounded by the file's size. */
export function readZip(bytes: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { count, begin, end } = directory(view);
  const entries: Entry[] = [];
  let at = begin;
  for (let i = 0; i < count; i++) {
    const { entry, next } = centralHeader(bytes, view, at, end);
    entries.push(entry);
    at = next;
  }
  if (at !== end) throw broken(`its directory has ${end - at} bytes beyond its ${count} entries`);
  checkNames(entries);

  const contents = new Map<string, Uint8Array>();
  let expected = 0;
  for (const entry of entries.sort((a, b) => a.offset - b.offset)) {
    if (entry.offset !== expected) {
      const fault = entry.offset < expected ? "overlap" : "leave a gap";
      throw broken(`its entries ${fault} before ${quote(entry.name)}, at byte ${Math.min(entry.offset, expected)}`);
    }
    const { data, next } = localEntry(bytes, view, entry, begin);
    contents.set(entry.name, data);
    expected = next;
  }
  if (expected !== begin) throw broken(`between its last entry and its directory are ${begin - expected} stray bytes`);
  return contents;
}

function broken(problem: string): FormatError {
  return new FormatError(`Not a zip archive as torch.save writes it: ${problem}.`);
}

/** Where the directory of entries lies and how many there are. */
function directory(view: DataView): { count: number; begin: number; end: number } {
  const at = view.byteLength - END_BYTES;
  if (at < 0 || view.getUint32(at, true) !== END) {
    throw broken("the end record is missing; the file is truncated or something was added behind it");
  }
  const disks = [view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
  if (disks.some((disk) => disk !== 0)) throw broken("it is split into several files");
  const count = view.getUint16(at + 10, true);
  const size = view.getUint32(at + 12, true);
  const begin = view.getUint32(at + 16, true);
  if (view.getUint16(at + 8, true) !== count) throw broken("the end record gives two counts of entries");
  if (view.getUint16(at + 20, true) !== 0) throw broken("it has a comment");

  const locator = at - LOCATOR_BYTES;
  const zip64 = locator >= 0 && view.getUint32(locator, true) === LOCATOR_64;
  const found = zip64 ? directory64(view, locator) : { count, size, begin, end: at };
  const said = zip64 ? [Math.min(found.count, 0xffff), Math.min(found.size, SENTINEL), found.begin] : [];
  if (zip64 && String(said) !== String([count, size, begin])) {
    throw broken("its zip64 record contradicts the end record");
  }
  if (found.begin + found.size !== found.end) {
    throw broken(
      `its directory should lie in bytes ${found.begin} to ${found.begin + found.size}, right before the end record at ${found.end}`,
    );
  }
  return { count: found.count, begin: found.begin, end: found.end };
}

function directory64(view: DataView, locator: number): { count: number; size: number; begin: number; end: number } {
  const at = locator - END_64_BYTES;
  if (at < 0 || view.getUint32(at, true) !== END_64 || number64(view, at + 4) !== END_64_BYTES - 12) {
    throw broken("its zip64 record is missing or of unknown length");
  }
  const place = number64(view, locator + 8);
  if (place !== at) throw broken(`its zip64 locator points to byte ${place}, the record is at ${at}`);
  const disks = [locator + 4, at + 16, at + 20].map((field) => view.getUint32(field, true));
  if (disks.some((disk) => disk !== 0) || view.getUint32(locator + 16, true) !== 1) {
    throw broken("its zip64 record says that it is split into several files");
  }
  const count = number64(view, at + 32);
  if (number64(view, at + 24) !== count) throw broken("its zip64 record gives two counts of entries");
  return { count, size: number64(view, at + 40), begin: number64(view, at + 48), end: at };
}

/** Beyond 2^53 it is inexact, and compared with what it should be fails all the same. */
function number64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function centralHeader(bytes: Uint8Array, view: DataView, at: number, end: number): { entry: Entry; next: number } {
  if (at + CENTRAL_BYTES > end || view.getUint32(at, true) !== CENTRAL) {
    throw broken(`its directory has no entry at byte ${at}`);
  }
  const nameLength = view.getUint16(at + 28, true);
  const extraLength = view.getUint16(at + 30, true);
  const next = at + CENTRAL_BYTES + nameLength + extraLength;
  if (next > end) throw broken(`its directory's entry at byte ${at} is longer than the directory`);
  const nameBytes = bytes.subarray(at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameLength);
  const flags = view.getUint16(at + 8, true);
  const name = entryName(nameBytes, flags);
  const refuse = (problem: string) => broken(`entry ${quote(name)} ${problem}`);
  if (flags & ENCRYPTED) throw refuse("is encrypted");
  if (flags & ~(HAS_DESCRIPTOR | UTF8)) throw refuse(`has unknown flags 0x${flags.toString(16)}`);
  const method = view.getUint16(at + 10, true);
  if (method !== 0) {
    throw refuse(`is compressed (method ${method}); unpack it and zip it again without compression (zip -0)`);
  }
  const size = view.getUint32(at + 20, true);
  const offset = view.getUint32(at + 42, true);
  if (size === SENTINEL || offset === SENTINEL) throw refuse("claims to lie beyond 4 GiB");
  if (view.getUint32(at + 24, true) !== size) throw refuse("is stored, yet its two sizes differ");
  if (view.getUint16(at + 32, true) !== 0) throw refuse("has a comment");
  if (view.getUint16(at + 34, true) !== 0) throw refuse("lies in another file");
  checkExtra(view, at + CENTRAL_BYTES + nameLength, extraLength, refuse);
  const common = bytes.subarray(at + 6, at + 16);
  return { entry: { name, nameBytes, flags, crc: view.getUint32(at + 16, true), size, offset, common }, next };
}

function entryName(bytes: Uint8Array, flags: number): string {
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw broken("an entry's name is not UTF-8");
  }
  if (!(flags & UTF8) && bytes.some((byte) => byte > 127))
    throw broken(`entry ${quote(name)} does not say it is UTF-8`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\\:\x00-\x1f\x7f]/.test(name) || name.split("/").some((part) => part === "" || part === "." || part === "..")) {
    throw broken(`entry ${quote(name)} is no plain path inside the archive`);
  }
  return name;
}

/** torch's own reader takes upper and lower case as equal. */
function checkNames(entries: readonly Entry[]): void {
  const seen = new Set<string>();
  for (const { name } of entries) {
    const key = name.toLowerCase();
    if (seen.has(key)) throw broken(`entry ${quote(name)} is there twice`);
    seen.add(key);
  }
}

/** Padding is the only extra field there may be. Zip64's would hide another size, Unicode's another name. */
function checkExtra(view: DataView, at: number, length: number, refuse: (problem: string) => FormatError): void {
  const end = at + length;
  for (let field = at; field < end; ) {
    if (field + 4 > end) throw refuse("has half an extra field");
    const id = view.getUint16(field, true);
    if (id !== PADDING) throw refuse(`has an extra field 0x${id.toString(16)}`);
    field += 4 + view.getUint16(field + 2, true);
    if (field > end) throw refuse("has an extra field that is cut off");
  }
}

/** The data of an entry, whose local header and descriptor must say what the directory says. */
function localEntry(
  bytes: Uint8Array,
  view: DataView,
  entry: Entry,
  limit: number,
): { data: Uint8Array; next: number } {
  const { name, nameBytes, flags, crc, size, offset, common } = entry;
  const refuse = (problem: string) => broken(`entry ${quote(name)} ${problem}`);
  const nameAt = offset + LOCAL_BYTES;
  const extraAt = nameAt + nameBytes.length;
  if (extraAt > limit || view.getUint32(offset, true) !== LOCAL) throw refuse(`has no header at byte ${offset}`);
  const extraLength = view.getUint16(offset + 28, true);
  const descriptor = (flags & HAS_DESCRIPTOR) !== 0;
  const begin = extraAt + extraLength;
  const end = begin + size;
  const next = end + (descriptor ? DESCRIPTOR_BYTES : 0);
  if (next > limit) throw refuse("reaches into the directory");

  const said = [14, 18, 22].map((field) => view.getUint32(offset + field, true));
  const figures = String([crc, size, size]);
  const agrees =
    view.getUint16(offset + 26, true) === nameBytes.length &&
    equal(bytes.subarray(nameAt, extraAt), nameBytes) &&
    equal(bytes.subarray(offset + 4, offset + 14), common) &&
    (String(said) === figures || (descriptor && said.every((value) => value === 0)));
  if (!agrees) throw refuse("has a header that contradicts the directory");
  checkExtra(view, extraAt, extraLength, refuse);
  if (descriptor) {
    const [signature, ...values] = [0, 4, 8, 12].map((field) => view.getUint32(end + field, true));
    if (signature !== DESCRIPTOR || String(values) !== figures) {
      throw refuse("has a data descriptor that contradicts the directory");
    }
  }
  const data = bytes.subarray(begin, end);
  if (crc32(data) !== crc) throw refuse("has another checksum than its bytes; the file is damaged");
  return { data, next };
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
