/** Bytes put together from parts: numbers are single bytes, texts UTF-8. */
export type Part = number | string | Uint8Array | readonly Part[];

export function bytes(...parts: readonly Part[]): Uint8Array {
  const flat: number[] = [];
  const add = (part: Part): void => {
    if (typeof part === "number") flat.push(part & 255);
    else if (typeof part === "string") add(new TextEncoder().encode(part));
    else for (const inner of part) add(inner as Part);
  };
  for (const part of parts) add(part);
  return Uint8Array.from(flat);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** `value` in `size` bytes, little-endian. Beyond 2^53 give a bigint. */
export function le(value: number | bigint, size: number): number[] {
  if (typeof value === "number" && size <= 4) return Array.from({ length: size }, (_, i) => (value >> (8 * i)) & 255);
  const wide = BigInt.asUintN(size * 8, BigInt(value));
  return Array.from({ length: size }, (_, i) => Number((wide >> BigInt(8 * i)) & 255n));
}

/** Big-endian, as pickle has its floats. */
export function float64(value: number): number[] {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return Array.from({ length: 8 }, (_, i) => view.getUint8(i));
}
