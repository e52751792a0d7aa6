/** Files for the tests of io/, byte by byte. */

/** A safetensors file with this header text, as given, and these data. */
export function craft(header: string | Uint8Array, data: ArrayLike<number> = []): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

/** One header entry. */
export function entry(
  name: string,
  dtype: string,
  shape: string,
  begin: number | string,
  end: number | string,
): string {
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}
