/** Checks of JSON from a file: what fits is returned as its type, what does not is a FormatError that names the place. */
import { FormatError } from "../errors.js";

/** `path` names the value in messages, for example `preprocessing.std.1`. */
export type Check<T> = (value: unknown, path: string) => T;

function wrong(path: string, expected: string, value: unknown): FormatError {
  const text = shown(value);
  const got = text.length > 60 ? `${text.slice(0, 57)}...` : text;
  return new FormatError(`"${path}" is wrong: expected ${expected}, got ${got}.`);
}

function shown(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "nothing";
  } catch {
    return "something nested too deep to show";
  }
}

/** `expected` says in words what `fits` accepts. */
export function check<T>(expected: string, fits: (value: unknown) => value is T): Check<T> {
  return (value, path) => {
    if (fits(value)) return value;
    throw wrong(path, expected, value);
  };
}

/** A check, and a condition on what passed it. */
export function such<T>(first: Check<T>, expected: string, holds: (value: T) => boolean): Check<T> {
  return (value, path) => {
    const checked = first(value, path);
    if (holds(checked)) return checked;
    throw wrong(path, expected, value);
  };
}

export const anything = check("a value", (x): x is unknown => x !== undefined);
export const string = check("a string", (x): x is string => typeof x === "string");
export const boolean = check("true or false", (x): x is boolean => typeof x === "boolean");
export const number = check("a finite number", (x): x is number => Number.isFinite(x));

export function whole(min: number): Check<number> {
  return such(number, `a whole number ≥ ${min}`, (x) => Number.isInteger(x) && x >= min);
}

/** One of these values. */
export function oneOf<const T extends readonly (string | number | boolean)[]>(...choices: T): Check<T[number]> {
  const expected = choices.join(", ").replace(/, ([^,]*)$/, " or $1");
  return check(expected, (x): x is T[number] => (choices as readonly unknown[]).includes(x));
}

export function nullable<T>(present: Check<T>): Check<T | null> {
  return (value, path) => (value === null ? null : present(value, path));
}

/** For a field that may be left out. */
export function optional<T>(present: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined ? undefined : present(value, path));
}

export function list<T>(item: Check<T>): Check<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw wrong(path, "a list", value);
    return value.map((x, i) => item(x, `${path}.${i}`));
  };
}

/** An object with these fields. Others are refused, unless `open`. */
export function object<F extends Readonly<Record<string, Check<unknown>>>>(
  fields: F,
  { open = false } = {},
): Check<{ [K in keyof F]: ReturnType<F[K]> }> {
  return (value, path) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(path, "an object", value);
    const given = value as Record<string, unknown>;
    const stranger = open ? undefined : Object.keys(given).find((key) => !Object.hasOwn(fields, key));
    if (stranger !== undefined) throw wrong(`${path}.${stranger}`, "no such field", given[stranger]);
    const checked = Object.entries(fields).map(([key, field]) => [key, field(given[key], `${path}.${key}`)]);
    return { ...given, ...Object.fromEntries(checked.filter(([, field]) => field !== undefined)) };
  };
}
