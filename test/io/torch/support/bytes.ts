/** Bytes put together from parts: numbers are single bytes, texts UTF-8. */
export type Part = number | string | Uint8Array | readonly Part[];

export function bytes(...parts: readonly Part[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  let few: number[] = []; // collected, as most parts are a byte or two
  const add = (part: Part): void => {
    if (typeof part === "number") few.push(part & 255);
    else if (typeof part === "string") add(encoder.encode(part));
    else if (part instanceof Uint8Array && part.length > 64) {
      chunks.push(Uint8Array.from(few), part);
      few = [];
    } else for (const inner of part) add(inner as Part);
  };
  for (const part of parts) add(part);
  return joined([...chunks, Uint8Array.from(few)]);
}

const encoder = new TextEncoder();

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
  const digits: number[] = [];
  if (typeof value === "number" && size <= 4) for (let i = 0; i < size; i++) digits.push((value >> (8 * i)) & 255);
  else for (let i = 0; i < size; i++) digits.push(Number((BigInt(value) >> BigInt(8 * i)) & 255n));
  return digits;
}

/** Big-endian, as pickle has its floats. */
export function float64(value: number): number[] {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return Array.from({ length: 8 }, (_, i) => view.getUint8(i));
}
