/** Writes the EXIF orientation into images, for tests. */

/** An EXIF block of two tags, the second of them the orientation. */
export function exif(orientation: number, little: boolean, { magic = 42, directory = 8, type = 3 } = {}): Uint8Array {
  const bytes = new Uint8Array(38);
  const view = new DataView(bytes.buffer);
  bytes.fill(little ? 0x49 : 0x4d, 0, 2);
  view.setUint16(2, magic, little);
  view.setUint32(4, directory, little);
  view.setUint16(8, 2, little);
  for (const [i, [tag, value]] of [[0x0100, 5] as const, [0x0112, orientation] as const].entries()) {
    view.setUint16(10 + 12 * i, tag, little);
    view.setUint16(12 + 12 * i, type, little);
    view.setUint32(14 + 12 * i, 1, little);
    view.setUint16(18 + 12 * i, value, little);
  }
  return bytes;
}

/** The JPEG with an APP1 segment behind its first marker. */
export function withExif(file: Uint8Array, block: Uint8Array): Uint8Array {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(8 + block.length);
  const segment = [Buffer.of(0xff, 0xe1), length, Buffer.from("Exif\0\0"), block];
  return Buffer.concat([file.subarray(0, 2), ...segment, file.subarray(2)]);
}
