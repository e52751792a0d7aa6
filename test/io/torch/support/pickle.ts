/** Writes pickles as Python does, in protocols 0 to 5. */
import { bytes, float64, le, type Part } from "./bytes.js";

export class Tuple {
  readonly items: readonly unknown[];
  constructor(...items: unknown[]) {
    this.items = items;
  }
}

export class Float {
  constructor(readonly value: number) {}
}

export class Global {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}
}

/** What `__reduce__` gives: a callable, its arguments, and attributes and items to be set. */
export class Reduce {
  constructor(
    readonly callee: unknown,
    readonly args: Tuple,
    readonly more: {
      state?: unknown;
      items?: ReadonlyMap<unknown, unknown>;
      list?: readonly unknown[];
      new?: boolean;
    } = {},
  ) {}
}

/** Written by its id, which the writer's caller chooses. */
export class Persistent {
  constructor(readonly object: unknown) {}
}

/** Bytes that go into the pickle as they are. */
export class Raw {
  readonly parts: readonly Part[];
  constructor(...parts: Part[]) {
    this.parts = parts;
  }
}

export interface PickleOptions {
  protocol?: number;
  idOf?: (object: unknown) => unknown;
}

/** Lists are arrays, dicts Maps, integers numbers or bigints, floats `Float` where they are whole. */
export function pickle(value: unknown, options: PickleOptions = {}): Uint8Array {
  const { protocol = 2 } = options;
  const body = new Writer(options).write(value);
  const frame = protocol >= 4 ? [0x95, le(body.length + 1, 8)] : [];
  return bytes(protocol >= 2 ? [0x80, protocol] : [], frame, body, ".");
}

class Writer {
  readonly #protocol: number;
  readonly #idOf: (object: unknown) => unknown;
  readonly #memo = new Map<unknown, number>();

  constructor({ protocol = 2, idOf = (object) => object }: PickleOptions) {
    this.#protocol = protocol;
    this.#idOf = idOf;
  }

  write(value: unknown): Part[] {
    const p = this.#protocol;
    if (value === null) return ["N"];
    if (typeof value === "boolean") return p < 2 ? [`I0${value ? 1 : 0}\n`] : [value ? 0x88 : 0x89];
    if (typeof value === "bigint" || Number.isInteger(value)) return this.#integer(BigInt(value as number));
    if (typeof value === "number") return this.write(new Float(value));
    if (value instanceof Float) return p === 0 ? [`F${value.value}\n`] : ["G", float64(value.value)];
    if (value instanceof Raw) return [...value.parts];
    if (value instanceof Persistent) {
      const id = this.#idOf(value.object);
      return p === 0 ? [`P${String(id)}\n`] : [this.write(id), "Q"];
    }
    const key = value instanceof Global ? `${value.module} ${value.name}` : value;
    const known = this.#memo.get(key);
    if (known !== undefined) return this.#get(known);
    return this.#object(value, key);
  }

  #object(value: unknown, key: unknown): Part[] {
    const p = this.#protocol;
    if (typeof value === "string") return [this.#text(value), this.#put(key)];
    if (value instanceof Uint8Array) {
      if (p < 3) {
        const text = String.fromCharCode(...value);
        return this.write(new Reduce(new Global("_codecs", "encode"), new Tuple(text, "latin1")));
      }
      return [value.length < 256 ? ["C", value.length] : ["B", le(value.length, 4)], value, this.#put(key)];
    }
    if (value instanceof Global) {
      if (p < 4) return [`c${value.module}\n${value.name}\n`, this.#put(key)];
      return [this.write(value.module), this.write(value.name), 0x93, this.#put(key)];
    }
    if (value instanceof Tuple) {
      const { items } = value;
      if (items.length === 0 && p >= 1) return [")"];
      const inner = items.map((item) => this.write(item));
      if (p >= 2 && items.length <= 3) return [inner, 0x84 + items.length, this.#put(key)];
      return ["(", inner, "t", this.#put(key)];
    }
    if (Array.isArray(value)) {
      const start = [p === 0 ? "(l" : "]", this.#put(key)];
      return [start, this.#list(value)];
    }
    if (value instanceof Map) {
      const start = [p === 0 ? "(d" : "}", this.#put(key)];
      return [start, this.#items(value)];
    }
    if (value instanceof Reduce) return this.#reduce(value);
    throw new Error(`cannot pickle ${String(value)}`);
  }

  #reduce(value: Reduce): Part[] {
    const { callee, args, more } = value;
    const made = [this.write(callee), this.write(args), more.new ? 0x81 : "R", this.#put(value)];
    const items = more.items === undefined ? [] : this.#items(more.items);
    const list = more.list === undefined ? [] : this.#list(more.list);
    const state = more.state === undefined ? [] : [this.write(more.state), "b"];
    return [made, list, items, state];
  }

  #list(items: readonly unknown[]): Part[] {
    if (this.#protocol === 0) return items.map((item) => [this.write(item), "a"]);
    return items.length === 0 ? [] : ["(", items.map((item) => this.write(item)), "e"];
  }

  #items(items: ReadonlyMap<unknown, unknown>): Part[] {
    const pairs = [...items].map(([k, v]) => [this.write(k), this.write(v)]);
    if (this.#protocol === 0) return pairs.map((pair) => [pair, "s"]);
    if (pairs.length === 1) return [pairs, "s"];
    return pairs.length === 0 ? [] : ["(", pairs, "u"];
  }

  #integer(value: bigint): Part[] {
    const p = this.#protocol;
    const small = value >= -0x80000000n && value < 0x80000000n;
    if (p === 0) return [small ? `I${value}\n` : `L${value}L\n`];
    if (value >= 0n && value < 256n) return ["K", Number(value)];
    if (value >= 0n && value < 65536n) return ["M", le(value, 2)];
    if (small) return ["J", le(value, 4)];
    if (p === 1) return [`L${value}L\n`];
    let size = 1;
    while (BigInt.asIntN(8 * size, value) !== value) size++;
    return [0x8a, size, le(value, size)];
  }

  #text(text: string): Part[] {
    const p = this.#protocol;
    if (p === 0) {
      const escaped = Array.from(text, (char) => {
        const code = char.codePointAt(0)!;
        if (code > 0xffff) return `\\U${code.toString(16).padStart(8, "0")}`;
        return code > 126 || code < 32 || char === "\\" ? `\\u${code.toString(16).padStart(4, "0")}` : char;
      });
      return ["V", escaped, "\n"];
    }
    const utf8 = new TextEncoder().encode(text);
    return p >= 4 && utf8.length < 256 ? [0x8c, utf8.length, utf8] : ["X", le(utf8.length, 4), utf8];
  }

  #put(key: unknown): Part[] {
    const index = this.#memo.size;
    this.#memo.set(key, index);
    if (this.#protocol >= 4) return [0x94];
    if (this.#protocol === 0) return [`p${index}\n`];
    return index < 256 ? ["q", index] : ["r", le(index, 4)];
  }

  #get(index: number): Part[] {
    if (this.#protocol === 0) return [`g${index}\n`];
    return index < 256 ? ["h", index] : ["j", le(index, 4)];
  }
}
