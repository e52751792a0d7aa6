/** Tensors of a torch file: a storage of elements, and views into it by offset, shape and strides. */
import { FormatError } from "../../errors.js";
import { quote } from "../json-scanner.js";
import type { Dtype, StoredTensor } from "../safetensors.js";

/** Bytes of an element, for each dtype that a storage can have here. */
const ELEMENT_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;
export type StorageDtype = keyof typeof ELEMENT_BYTES & Dtype;

/** Most dimensions torch itself can iterate over. */
const MAX_RANK = 64;

export class Storage {
  #data: Uint8Array | undefined;

  constructor(
    /** Its name in the file. */
    readonly key: string,
    readonly dtype: StorageDtype,
    /** Elements. */
    readonly length: number,
  ) {
    if (!isIndex(this.byteLength)) throw new FormatError(`Storage ${quote(key)} claims ${length} elements.`);
  }

  get byteLength(): number {
    return this.length * ELEMENT_BYTES[this.dtype];
  }

  /** Undefined until the file's reader has found them. */
  get data(): Uint8Array | undefined {
    return this.#data;
  }

  set data(data: Uint8Array) {
    if (data.length !== this.byteLength) {
      throw new FormatError(
        `Storage ${quote(this.key)} should have ${this.byteLength} bytes (${this.length} of ${this.dtype}), the file has ${data.length}.`,
      );
    }
    this.#data = data;
  }
}

export class Tensor {
  /** Throws FormatError where an element would lie outside the storage. */
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {
    if (shape.length !== strides.length || shape.length > MAX_RANK) {
      throw new FormatError(`A tensor has ${shape.length} sizes and ${strides.length} strides.`);
    }
    let last = offset;
    for (let i = 0; i < shape.length; i++) last += Math.max(shape[i]! - 1, 0) * strides[i]!;
    if ((this.size > 0 ? last + 1 : offset) > storage.length) {
      throw new FormatError(
        `A tensor of shape [${shape}] with strides [${strides}] from ${offset} on leaves its storage of ${storage.length} elements.`,
      );
    }
  }

  /** Elements. */
  get size(): number {
    return this.shape.includes(0) ? 0 : this.shape.reduce((product, size) => product * size, 1);
  }

  /** Whether the elements lie in the storage as in a dense row-major tensor. */
  get contiguous(): boolean {
    let stride = 1;
    for (let i = this.shape.length - 1; i >= 0; i--) {
      if (this.shape[i] !== 1 && this.strides[i] !== stride) return false;
      stride *= this.shape[i]!;
    }
    return true;
  }

  /** Dense and row-major: a view of the file where the tensor is contiguous, else a copy no larger than the storage. */
  stored(): StoredTensor {
    const { dtype, data } = this.storage;
    const shape = [...this.shape];
    const width = ELEMENT_BYTES[dtype];
    const begin = this.offset * width;
    if (this.size === 0) return { dtype, shape, data: new Uint8Array(0) };
    if (this.contiguous) return { dtype, shape, data: data!.subarray(begin, begin + this.size * width) };
    if (this.size > this.storage.length) {
      throw new FormatError(`A tensor of shape [${shape}] repeats the elements of its storage; store a dense copy.`);
    }
    const dense = new Uint8Array(this.size * width);
    const index = shape.map(() => 0);
    let from = this.offset;
    for (let to = 0; to < dense.length; to += width) {
      for (let byte = 0; byte < width; byte++) dense[to + byte] = data![from * width + byte]!;
      for (let i = shape.length - 1; i >= 0; i--) {
        from += this.strides[i]!;
        if (++index[i]! < shape[i]!) break;
        from -= index[i]! * this.strides[i]!;
        index[i] = 0;
      }
    }
    return { dtype, shape, data: dense };
  }
}

export function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
