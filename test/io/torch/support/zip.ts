/** Writes zip archives as torch.save does, and with any lie a caller wants told. */
import { crc32 } from "../../../../src/io/crc32.js";
import { bytes, joined, le, type Part } from "./bytes.js";

export interface Header {
  version: number;
  flags: number;
  method: number;
  time: number;
  crc: number;
  compressed: number;
  size: number;
  name: string | Uint8Array;
  extra: Part;
}

export interface ZipEntry {
  name: string | Uint8Array;
  data: Uint8Array;
  /** What the headers say instead of the truth. */
  local?: Partial<Header>;
  central?: Partial<Header & { offset: number; comment: string; disk: number }>;
  descriptor?: Partial<{ signature: number; crc: number; size: number }>;
  /** Both headers. */
  both?: Partial<Header>;
  /** Stray bytes before the entry. */
  before?: Part;
}

export interface ZipOptions {
  before?: Part;
  /** Between the last entry and the directory, behind the directory, behind the end. */
  gap?: Part;
  behindDirectory?: Part;
  after?: Part;
  comment?: string;
  end?: Partial<{ disk: number; countHere: number; count: number; size: number; begin: number }>;
  zip64?: boolean;
  end64?: Partial<{
    length: number;
    disk: number;
    countHere: number;
    count: number;
    size: number;
    begin: number | bigint;
  }>;
  locator?: Partial<{ place: number; disks: number }>;
}

const HAS_DESCRIPTOR = 8;

export function zip(entries: readonly ZipEntry[], options: ZipOptions = {}): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  const put = (...more: Part[]): void => {
    const part = more.length === 1 && more[0] instanceof Uint8Array ? more[0] : bytes(more);
    parts.push(part);
    length += part.length;
  };
  put(options.before ?? []);
  const directory: Part[] = [];
  for (const { name, data, local, central, descriptor, both, before = [] } of entries) {
    put(before);
    const offset = length;
    const truth: Header = {
      ...{ version: 0, flags: data.length > 0 ? 0x808 : 0x800, method: 0, time: 0, crc: crc32(data) },
      ...{ compressed: data.length, size: data.length, name, extra: [] },
    };
    const streamed = (both?.flags ?? truth.flags) & HAS_DESCRIPTOR;
    const blank = streamed ? { crc: 0, compressed: 0, size: 0 } : {};
    const extra = padding(offset + 30 + bytes(name).length);
    put(header("PK\x03\x04", { ...truth, extra, ...both, ...blank, ...local }));
    put(data);
    if (streamed) {
      const said = { signature: 0x08074b50, crc: truth.crc, size: data.length, ...descriptor };
      put(le(said.signature, 4), le(said.crc, 4), le(said.size, 4), le(said.size, 4));
    }
    directory.push(centralHeader({ ...truth, offset, comment: "", disk: 0, ...both, ...central }));
  }
  put(options.gap ?? []);
  const begin = length;
  put(directory, options.behindDirectory ?? []);
  const count = entries.length;
  const truth = { disk: 0, countHere: count, count, size: length - begin, begin };
  if (options.zip64 ?? true) {
    const end64 = { length: 44, ...truth, ...options.end64 };
    const place = length;
    put("PK\x06\x06", le(end64.length, 8), le(0x031e, 2), le(0x2d, 2), le(end64.disk, 4), le(0, 4));
    put(le(end64.countHere, 8), le(end64.count, 8), le(end64.size, 8), le(end64.begin, 8));
    const locator = { place, disks: 1, ...options.locator };
    put("PK\x06\x07", le(0, 4), le(locator.place, 8), le(locator.disks, 4));
  }
  const end = { ...truth, ...options.end };
  const comment = options.comment ?? "";
  put("PK\x05\x06", le(end.disk, 2), le(end.disk, 2), le(end.countHere, 2), le(end.count, 2));
  put(le(end.size, 4), le(end.begin, 4), le(comment.length, 2), comment, options.after ?? []);
  return joined(parts);
}

function common({ version, flags, method, time, crc, compressed, size }: Header): Part[] {
  return [le(version, 2), le(flags, 2), le(method, 2), le(time, 4), le(crc, 4), le(compressed, 4), le(size, 4)];
}

function header(signature: string, said: Header): Uint8Array {
  const [name, extra] = [bytes(said.name), bytes(said.extra)];
  return bytes(signature, common(said), le(name.length, 2), le(extra.length, 2), name, extra);
}

function centralHeader(said: Header & { offset: number; comment: string; disk: number }): Part[] {
  const [name, extra] = [bytes(said.name), bytes(said.extra)];
  const lengths = [name.length, extra.length, said.comment.length, said.disk].map((value) => le(value, 2));
  return ["PK\x01\x02", le(0, 2), common(said), lengths, le(0, 6), le(said.offset, 4), name, extra, said.comment];
}

/** The extra field with which torch moves data to a multiple of 64. */
function padding(at: number): Part[] {
  const length = (64 - ((at + 4) % 64)) % 64;
  return ["FB", le(length, 2), Array(length).fill(0x5a)];
}
