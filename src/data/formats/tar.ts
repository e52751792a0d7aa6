/**
 * The index of a tar archive: where each file's bytes lie, so that single files can be read without unpacking. Reads ustar,
 * GNU and pax archives; links and devices are left out. (modern-tar unpacks but tells no positions.)
 */
import { FormatError } from "../../errors.js";

export interface TarIndex {
  folders: string[];
  names: string[];
  /** Position and length of each file's bytes in the archive. */
  offsets: Float64Array;
  sizes: Float64Array;
}

const BLOCK = 512;
/** Most zeros behind the end: tar fills its last record with them, of 10 KiB and rarely more. */
const MAX_PADDING = 1 << 20;
/** Longest name or pax record believed; a longer one is damage. */
const MAX_META = 1 << 20;

/** `read(at, length)` returns exactly that range of the archive's `size` bytes. Cost: one short read a file. */
export function indexTar(size: number, read: (at: number, length: number) => Uint8Array, archive: string): TarIndex {
  const folders: string[] = [];
  const names: string[] = [];
  const offsets: number[] = [];
  const sizes: number[] = [];
  let next: { path?: string; size?: number } = {};
  let at = 0;
  const truncated = () => new FormatError(`${archive}: the tar archive is truncated after ${names.length} files`);

  while (true) {
    if (at + BLOCK > size) throw truncated();
    const header = read(at, BLOCK);
    if (header.every((byte) => byte === 0)) break; // the first of two zero blocks that end an archive
    if (octal(header, 148, 8) !== checksum(header)) {
      throw new FormatError(`${archive}: not a tar archive, or damaged: the header at byte ${at} has a wrong checksum`);
    }
    const type = String.fromCharCode(header[156]!);
    const bodyless = type >= "1" && type <= "6"; // links, devices, folders
    const length = bodyless ? 0 : (next.size ?? octal(header, 124, 12));
    const body = at + BLOCK;
    at = body + Math.ceil(length / BLOCK) * BLOCK;
    if (!Number.isSafeInteger(at) || body + length > size) throw truncated();

    if (type === "L" || type === "x" || type === "g") {
      if (length > MAX_META)
        throw new FormatError(`${archive}: the header at byte ${body - BLOCK} is ${length} bytes long, damaged`);
      const meta = read(body, length).slice();
      if (type === "L") next.path = text(meta, 0, length);
      if (type === "x") next = { ...next, ...parsePax(meta) };
      continue;
    }
    const prefix = text(header, 257, 6) === "ustar" ? text(header, 345, 155) : "";
    const path = next.path ?? (prefix ? `${prefix}/` : "") + text(header, 0, 100);
    const name = path.replace(/^(\.?\/)+/, "").replace(/\/+$/, "");
    next = {};
    if (type === "5" || path.endsWith("/")) folders.push(name);
    else if (type === "0" || type === "\0" || type === "7") {
      names.push(name);
      offsets.push(body);
      sizes.push(length);
    }
  }
  // What was never written reads as zeros too: then many follow, or more files.
  const rest = size - at;
  if (rest > MAX_PADDING || !read(at, rest).every((byte) => byte === 0)) {
    throw new FormatError(
      `${archive}: damaged or not whole, its end at byte ${at} is followed by ${rest} bytes more; get it again`,
    );
  }
  return { folders, names, offsets: Float64Array.from(offsets), sizes: Float64Array.from(sizes) };
}

function text(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.slice(at, at + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/** A number field: octal text, or base 256 where the top bit is set (GNU, for 8 GiB and more). NaN if neither. */
function octal(bytes: Uint8Array, at: number, length: number): number {
  if (bytes[at]! & 0x80) {
    return bytes.slice(at + 1, at + length).reduce((value, byte) => value * 256 + byte, bytes[at]! & 0x7f);
  }
  const digits = text(bytes, at, length).trim();
  return /^[0-7]*$/.test(digits) ? Number.parseInt(digits || "0", 8) : Number.NaN;
}

function checksum(header: Uint8Array): number {
  let sum = 8 * 32; // the checksum field itself counts as spaces
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i]!;
  return sum;
}

/** Records `"<length> <key>=<value>\n"`, length counting the whole record in bytes. */
function parsePax(bytes: Uint8Array): { path?: string; size?: number } {
  const found: { path?: string; size?: number } = {};
  for (let at = 0; at < bytes.length; ) {
    const length = Number.parseInt(text(bytes, at, 20), 10);
    if (!(length > 0)) break;
    const [, key, value] = /^\d+ ([^=]*)=(.*)\n$/s.exec(text(bytes, at, length)) ?? [];
    if (key === "path") found.path = value!;
    if (key === "size") found.size = /^\d+$/.test(value!) ? Number(value) : Number.NaN; // which reads as truncated
    at += length;
  }
  return found;
}
