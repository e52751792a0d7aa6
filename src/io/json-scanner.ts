/**
 * Reads JSON of a known shape from a string, strictly: what `JSON.parse` lets pass or rounds (repeated keys, integers
 * beyond 2^53, lone surrogates) is an error here. The caller drives it: nothing recurses, so no input nests too deep.
 */
import { FormatError } from "../errors.js";

const LONE_SURROGATE = /\p{Surrogate}/u;

export class JsonScanner {
  #at = 0;
  readonly #text: string;
  readonly #errorName: string;

  /** `errorName` opens the message of every error. */
  constructor(text: string, errorName: string) {
    this.#text = text;
    this.#errorName = errorName;
  }

  fail(problem: string): never {
    throw new FormatError(`${this.#errorName}: ${problem}, at character ${this.#at} of the header.`);
  }

  /** Steps over white space, then over `char` if it comes next. */
  accept(char: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  expect(char: string): void {
    if (this.accept(char)) return;
    const found = this.#text[this.#at];
    this.fail(`expected ${char}, found ${found === undefined ? "the end" : JSON.stringify(found)}`);
  }

  /** Nothing but white space may be left. */
  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) this.fail("expected nothing behind the closing }");
  }

  string(): string {
    this.expect('"');
    const start = this.#at - 1;
    while (this.#text[this.#at] !== '"') {
      if (this.#at >= this.#text.length) this.fail("expected a closing quotation mark, found the end");
      this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    }
    this.#at++;
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start, this.#at));
    } catch {
      this.fail("expected a string, found a bad escape or a control character");
    }
    if (LONE_SURROGATE.test(value)) this.fail("expected a string of Unicode text, found half a surrogate pair");
    return value;
  }

  /** A non-negative integer written without sign, fraction or exponent, exact up to 2^53 - 1. */
  integer(): number {
    this.#skipSpace();
    const start = this.#at;
    while (this.#text[this.#at]! >= "0" && this.#text[this.#at]! <= "9") this.#at++;
    const length = this.#at - start;
    if (length === 0) this.fail("expected a non-negative integer");
    if (length > 1 && this.#text[start] === "0") this.fail("expected an integer without leading zeros");
    const value = length > 16 ? Number.POSITIVE_INFINITY : Number(this.#text.slice(start, this.#at));
    if (!Number.isSafeInteger(value)) this.fail("expected an integer below 2^53");
    return value;
  }

  array(item: () => void): void {
    this.expect("[");
    if (this.accept("]")) return;
    do item();
    while (this.accept(","));
    this.expect("]");
  }

  object(member: (key: string) => void): void {
    this.expect("{");
    if (this.accept("}")) return;
    const seen = new Set<string>();
    do {
      const key = this.string();
      if (seen.has(key)) this.fail(`expected every key once, found ${quote(key)} again`);
      seen.add(key);
      this.expect(":");
      member(key);
    } while (this.accept(","));
    this.expect("}");
  }

  #skipSpace(): void {
    while (this.#at < this.#text.length && " \n\r\t".includes(this.#text[this.#at]!)) this.#at++;
  }
}

/** A name as it may stand in a message: quoted, and cut when it is very long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}
