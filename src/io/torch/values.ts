/**
 * Python values as a pickle describes them. None, booleans, floats, text and bytes are JavaScript's own; integers are
 * numbers, beyond 2^53 bigints. The rest are the classes here. They may refer to each other in circles: do not recurse.
 */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import type { StorageDtype } from "./tensor.js";

/** No honest checkpoint nests nearly as deep. */
const MAX_DEPTH = 1000;

/** What other values can lie in. */
abstract class Container {
  /** One more than the deepest container inside had when it was put in. */
  #depth = 1;

  protected enclose(child: unknown): void {
    if (!(child instanceof Container) || child.#depth < this.#depth) return;
    this.#depth = child.#depth + 1;
    if (this.#depth > MAX_DEPTH) throw new FormatError(`The pickle nests deeper than ${MAX_DEPTH} levels.`);
  }
}

export class Tuple extends Container {
  readonly items: readonly unknown[];

  constructor(items: readonly unknown[]) {
    super();
    for (const item of items) this.enclose(item);
    this.items = items;
  }
}

export class List extends Container {
  readonly items: unknown[] = [];

  append(item: unknown): void {
    this.enclose(item);
    this.items.push(item);
  }
}

/** Shared by all that are still empty: a pickle of one-byte `{`s must not cost a Map each. */
const NO_ENTRIES: ReadonlyMap<unknown, unknown> = new Map();

export class Dict extends Container {
  #entries: Map<unknown, unknown> | undefined;

  get entries(): ReadonlyMap<unknown, unknown> {
    return this.#entries ?? NO_ENTRIES;
  }

  set(key: unknown, value: unknown): void {
    if (key instanceof List || key instanceof Dict)
      throw new FormatError(`A pickled dict has ${kindOf(key)} as a key.`);
    if (this.entries.has(key)) throw new FormatError("A pickled dict has the same key twice.");
    this.enclose(key);
    this.enclose(value);
    this.#entries ??= new Map();
    this.#entries.set(key, value);
  }
}

/** `collections.OrderedDict`, which unlike a dict may carry attributes (`_metadata`). */
export class OrderedDict extends Dict {}

/**
 * Stands for a global that is not on the list, and for whatever the pickle makes of it by calling or filling it. Nothing
 * is looked up, called or made.
 */
export class Inert extends Container {
  /** What the pickle says the object's attributes are. */
  #state: unknown = null;

  constructor(readonly name: string) {
    super();
  }

  get state(): unknown {
    return this.#state;
  }

  set state(state: unknown) {
    this.enclose(state);
    this.#state = state;
  }
}

/** A global on the list (globals.ts). */
export class Known {
  constructor(
    readonly module: string,
    readonly name: string,
    /** What calling it with these arguments gives; absent where it cannot be called. */
    readonly call?: (args: readonly unknown[]) => unknown,
    /** Of the elements, where it is a type of storage. */
    readonly dtype?: StorageDtype,
  ) {}
}

/** A value in an error message. */
export function kindOf(value: unknown): string {
  if (value === null) return "None";
  if (value instanceof Inert) return `an object of ${quote(value.name)}, which is not resolved`;
  if (value instanceof Known) return `${value.module}.${value.name}`;
  if (typeof value === "object") return value.constructor.name;
  return `a ${typeof value}`;
}
