/**
 * Python's pickle format as far as weights need it, read as data: opcodes build the values of values.ts, and a global is
 * one of a short list or inert. Nothing is imported, looked up or called. What is malformed, not needed or too large is
 * a FormatError. Memory is bounded by the file's size and the number of opcodes.
 * Format: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import { knownGlobal, storageOf } from "./globals.js";
import type { Storage } from "./tensor.js";
import { Dict, Inert, Known, kindOf, List, OrderedDict, Tuple } from "./values.js";

/** The checkpoint of a network with 5,000 tensors, teacher and momentum included, takes half of it. */
const MAX_OPS = 1_000_000;
/** Of marks that are open at a time: how deep the file's own nesting is. */
const MAX_MARKS = 1000;
const MAX_TEXT_BYTES = 1 << 20;
/** Of names and of numbers written as text. */
const MAX_LINE_BYTES = 1024;
const MAX_INTEGER_BYTES = 255;
const MAX_PROTOCOL = 5;

const OP = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  FLOAT: 0x46,
  BINFLOAT: 0x47,
  INT: 0x49,
  BININT: 0x4a,
  BININT1: 0x4b,
  LONG: 0x4c,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
} as const;

/** Opcodes that no weights need. */
const REFUSED: ReadonlyMap<number, string> = new Map([
  [0x30, "POP"],
  [0x31, "POP_MARK"],
  [0x32, "DUP"],
  [0x50, "PERSID (protocol 0 cannot store tensors)"],
  [0x53, "STRING"],
  [0x54, "BINSTRING"],
  [0x55, "SHORT_BINSTRING"],
  [0x69, "INST"],
  [0x6f, "OBJ"],
  [0x82, "EXT1"],
  [0x83, "EXT2"],
  [0x84, "EXT4"],
  [0x8f, "EMPTY_SET"],
  [0x90, "ADDITEMS"],
  [0x91, "FROZENSET"],
  [0x92, "NEWOBJ_EX"],
  [0x96, "BYTEARRAY8"],
  [0x97, "NEXT_BUFFER"],
  [0x98, "READONLY_BUFFER"],
]);

/** What a file's pickles share. */
export interface Context {
  /** Refuse globals that are not on the list, instead of making them inert. */
  strict: boolean;
  /** Storages referred to, by key. */
  storages: Map<string, Storage>;
  /** Globals left inert, as `module.name`. */
  inert: Set<string>;
}

/** Reads the pickle that begins at byte `start`. `end`: the byte behind it. */
export function unpickle(bytes: Uint8Array, start: number, context: Context): { value: unknown; end: number } {
  return new Unpickler(bytes, start, context).run();
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const NO_ITEMS = new Tuple([]);

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #start: number;
  readonly #context: Context;
  readonly #stack: unknown[] = [];
  /** Stack heights at open marks. Nothing is popped beyond the last. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();
  #at: number;

  constructor(bytes: Uint8Array, start: number, context: Context) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#start = start;
    this.#at = start;
    this.#context = context;
  }

  run(): { value: unknown; end: number } {
    for (let ops = 0; ops < MAX_OPS; ops++) {
      const op = this.#byte();
      if (op !== OP.STOP) {
        this.#step(op);
        continue;
      }
      const value = this.#pop();
      if (this.#stack.length > 0 || this.#marks.length > 0) this.#fail("it ends with values left over");
      return { value, end: this.#at };
    }
    return this.#fail(`it has more than ${MAX_OPS} opcodes`);
  }

  #fail(problem: string): never {
    throw new FormatError(`The pickle is malformed: ${problem}, at byte ${this.#at}.`);
  }

  #step(op: number): void {
    const stack = this.#stack;
    switch (op) {
      case OP.PROTO: {
        const protocol = this.#byte();
        if (this.#at !== this.#start + 2) this.#fail("it names its protocol in the middle");
        if (protocol > MAX_PROTOCOL) this.#fail(`it has protocol ${protocol}, known are 0 to ${MAX_PROTOCOL}`);
        break;
      }
      case OP.FRAME:
        if (this.#length64() > this.#bytes.length - this.#at) this.#fail("a frame is longer than the file");
        break;

      case OP.NONE:
        stack.push(null);
        break;
      case OP.NEWTRUE:
        stack.push(true);
        break;
      case OP.NEWFALSE:
        stack.push(false);
        break;
      case OP.BININT:
        stack.push(this.#view.getInt32(this.#skip(4), true));
        break;
      case OP.BININT1:
        stack.push(this.#byte());
        break;
      case OP.BININT2:
        stack.push(this.#view.getUint16(this.#skip(2), true));
        break;
      case OP.LONG1:
        stack.push(this.#integer(this.#byte()));
        break;
      case OP.LONG4:
        stack.push(this.#integer(this.#length32()));
        break;
      case OP.INT:
        stack.push(this.#decimal(false));
        break;
      case OP.LONG:
        stack.push(this.#decimal(true));
        break;
      case OP.FLOAT:
        stack.push(this.#float());
        break;
      case OP.BINFLOAT:
        stack.push(this.#view.getFloat64(this.#skip(8), false));
        break;
      case OP.UNICODE:
        stack.push(this.#escapedText());
        break;
      case OP.SHORT_BINUNICODE:
        stack.push(this.#text(this.#byte()));
        break;
      case OP.BINUNICODE:
        stack.push(this.#text(this.#length32()));
        break;
      case OP.BINUNICODE8:
        stack.push(this.#text(this.#length64()));
        break;
      case OP.SHORT_BINBYTES:
        stack.push(this.#take(this.#byte()));
        break;
      case OP.BINBYTES:
        stack.push(this.#take(this.#length32()));
        break;
      case OP.BINBYTES8:
        stack.push(this.#take(this.#length64()));
        break;

      case OP.EMPTY_TUPLE:
        stack.push(NO_ITEMS);
        break;
      case OP.TUPLE1:
      case OP.TUPLE2:
      case OP.TUPLE3:
        stack.push(new Tuple(this.#popSeveral(op - OP.TUPLE1 + 1)));
        break;
      case OP.TUPLE:
        stack.push(new Tuple(this.#popToMark()));
        break;
      case OP.EMPTY_LIST:
        stack.push(new List());
        break;
      case OP.LIST: {
        const items = this.#popToMark();
        stack.push(new List());
        this.#append(items);
        break;
      }
      case OP.APPEND:
        this.#append([this.#pop()]);
        break;
      case OP.APPENDS:
        this.#append(this.#popToMark());
        break;
      case OP.EMPTY_DICT:
        stack.push(new Dict());
        break;
      case OP.DICT: {
        const pairs = this.#popToMark();
        stack.push(new Dict());
        this.#setItems(pairs);
        break;
      }
      case OP.SETITEM:
        this.#setItems(this.#popSeveral(2));
        break;
      case OP.SETITEMS:
        this.#setItems(this.#popToMark());
        break;

      case OP.MARK:
        if (this.#marks.length === MAX_MARKS) this.#fail(`it nests deeper than ${MAX_MARKS} levels`);
        this.#marks.push(stack.length);
        break;
      case OP.PUT:
        this.#memo.set(this.#memoKey(), this.#top());
        break;
      case OP.BINPUT:
        this.#memo.set(this.#byte(), this.#top());
        break;
      case OP.LONG_BINPUT:
        this.#memo.set(this.#length32(), this.#top());
        break;
      case OP.MEMOIZE:
        this.#memo.set(this.#memo.size, this.#top());
        break;
      case OP.GET:
        stack.push(this.#recall(this.#memoKey()));
        break;
      case OP.BINGET:
        stack.push(this.#recall(this.#byte()));
        break;
      case OP.LONG_BINGET:
        stack.push(this.#recall(this.#length32()));
        break;

      case OP.GLOBAL: {
        const module = this.#line();
        stack.push(this.#global(module, this.#line()));
        break;
      }
      case OP.STACK_GLOBAL: {
        const [module, name] = this.#popSeveral(2);
        if (typeof module !== "string" || typeof name !== "string") this.#fail("a global's name is no text");
        if (module.length + name.length > MAX_LINE_BYTES) this.#fail("a global's name is too long");
        stack.push(this.#global(module, name));
        break;
      }
      case OP.BINPERSID:
        stack.push(storageOf(this.#pop(), this.#context.storages));
        break;
      case OP.REDUCE:
        this.#reduce();
        break;
      case OP.NEWOBJ: {
        const [type, args] = this.#popSeveral(2);
        if (!(type instanceof Inert && args instanceof Tuple)) {
          this.#fail(`it makes an instance of ${kindOf(type)} with ${kindOf(args)}`);
        }
        stack.push(new Inert(type.name));
        break;
      }
      case OP.BUILD:
        this.#build();
        break;

      default: {
        const name = REFUSED.get(op);
        if (name === undefined) this.#fail(`0x${op.toString(16)} is no opcode`);
        this.#fail(`opcode ${name} is not needed for weights and not accepted`);
      }
    }
  }

  #reduce(): void {
    const [callee, args] = this.#popSeveral(2);
    if (!(args instanceof Tuple)) this.#fail(`arguments are ${kindOf(args)}`);
    if (callee instanceof Inert) this.#stack.push(new Inert(callee.name));
    else if (callee instanceof Known && callee.call) this.#stack.push(callee.call(args.items));
    else this.#fail(`it calls ${kindOf(callee)}`);
  }

  /** An OrderedDict's attributes are dropped: a state dict keeps versions of its modules there, which say nothing here. */
  #build(): void {
    const state = this.#pop();
    const target = this.#top();
    if (target instanceof Inert) target.state = state;
    else if (!(target instanceof OrderedDict && state instanceof Dict)) {
      this.#fail(`it sets attributes of ${kindOf(target)} to ${kindOf(state)}`);
    }
  }

  #append(items: readonly unknown[]): void {
    const target = this.#top();
    if (target instanceof Inert) return;
    if (!(target instanceof List)) this.#fail(`it appends to ${kindOf(target)}`);
    for (const item of items) target.append(item);
  }

  #setItems(pairs: readonly unknown[]): void {
    const target = this.#top();
    if (pairs.length % 2 !== 0) this.#fail("a key lacks its value");
    if (target instanceof Inert) return;
    if (!(target instanceof Dict)) this.#fail(`it sets items of ${kindOf(target)}`);
    for (let i = 0; i < pairs.length; i += 2) target.set(pairs[i], pairs[i + 1]);
  }

  #global(module: string, name: string): Known | Inert {
    const known = knownGlobal(module, name);
    if (known !== undefined) return known;
    const full = `${module}.${name}`;
    if (this.#context.strict) this.#fail(`it refers to ${quote(full)}, which strict reading refuses`);
    this.#context.inert.add(full);
    return new Inert(full);
  }

  // The stack.

  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #top(): unknown {
    if (this.#stack.length <= this.#floor) this.#fail("it takes a value from an empty stack");
    return this.#stack.at(-1);
  }

  #pop(): unknown {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popSeveral(count: number): unknown[] {
    if (this.#stack.length - count < this.#floor) this.#fail(`it takes ${count} values from a shorter stack`);
    return this.#stack.splice(-count);
  }

  #popToMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.#fail("a mark is missing");
    return this.#stack.splice(mark);
  }

  #recall(key: number): unknown {
    if (!this.#memo.has(key)) this.#fail(`it recalls ${key}, which was never memoised`);
    return this.#memo.get(key);
  }

  // The bytes.

  /** Where the next `length` bytes begin; they are there. */
  #skip(length: number): number {
    if (length > this.#bytes.length - this.#at) {
      this.#fail(`it needs ${length} more bytes, the file has ${this.#bytes.length - this.#at}`);
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }

  #take(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #byte(): number {
    return this.#bytes[this.#skip(1)]!;
  }

  #length32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  /** Above 2^53 inexact, and longer than any file. */
  #length64(): number {
    return this.#length32() + this.#length32() * 2 ** 32;
  }

  #text(length: number): string {
    if (length > MAX_TEXT_BYTES) this.#fail(`a text has ${length} bytes, the most is ${MAX_TEXT_BYTES}`);
    return this.#decode(this.#take(length));
  }

  #decode(bytes: Uint8Array): string {
    try {
      return utf8.decode(bytes);
    } catch {
      return this.#fail("a text is not UTF-8");
    }
  }

  #lineBytes(limit: number): Uint8Array {
    const end = this.#bytes.subarray(this.#at, this.#at + limit + 1).indexOf(0x0a);
    if (end < 0) this.#fail("a line has no end, or is too long");
    const line = this.#take(end);
    this.#skip(1);
    return line;
  }

  #line(): string {
    return this.#decode(this.#lineBytes(MAX_LINE_BYTES));
  }

  /** Protocol 0's text: Latin-1 with `\u` and `\U` escapes. */
  #escapedText(): string {
    const latin = Array.from(this.#lineBytes(MAX_TEXT_BYTES), (byte) => String.fromCharCode(byte)).join("");
    return latin.replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_, short?: string, long?: string) => {
      const code = Number.parseInt(short ?? long!, 16);
      if (code > 0x10ffff) this.#fail("a text has an impossible character");
      return String.fromCodePoint(code);
    });
  }

  #memoKey(): number {
    const text = this.#line();
    if (!/^\d{1,10}$/.test(text)) this.#fail(`${quote(text)} is no place in the memo`);
    return Number(text);
  }

  /** INT writes booleans as 00 and 01, LONG may end in L. */
  #decimal(long: boolean): number | bigint | boolean {
    const text = this.#line();
    if (!long && (text === "00" || text === "01")) return text === "01";
    const digits = long ? text.replace(/L$/, "") : text;
    if (!/^-?\d+$/.test(digits)) this.#fail(`${quote(text)} is no integer`);
    return exact(BigInt(digits));
  }

  #float(): number {
    const text = this.#line();
    const special: Record<string, number> = {
      inf: Number.POSITIVE_INFINITY,
      "-inf": Number.NEGATIVE_INFINITY,
      nan: Number.NaN,
    };
    if (Object.hasOwn(special, text)) return special[text]!;
    if (!/^-?\d+(\.\d*)?(e[+-]?\d+)?$/.test(text)) this.#fail(`${quote(text)} is no number`);
    return Number(text);
  }

  /** Little-endian two's complement; no bytes are 0. */
  #integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES) {
      this.#fail(`an integer has ${length} bytes, the most is ${MAX_INTEGER_BYTES}`);
    }
    const bytes = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    return exact(length === 0 ? 0n : BigInt.asIntN(length * 8, value));
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
