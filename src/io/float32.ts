/** Stored tensors ⇄ Float32Array, whatever floating dtype the file has. */
import { FormatError } from "../errors.js";
import type { StoredTensor } from "./safetensors.js";

/** `values` as a tensor to be stored; shares their memory. */
export function float32Tensor(shape: number[], values: Float32Array): StoredTensor {
  return { dtype: "F32", shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** `values` as a tensor of fp16, each rounded to nearest even: beyond 65,504 and half a step to an infinity. A NaN stays NaN. */
export function float16Tensor(shape: number[], values: Float32Array): StoredTensor {
  const halves = Uint16Array.from(new Uint32Array(values.buffer, values.byteOffset, values.length), singleToHalf);
  return { dtype: "F16", shape, data: new Uint8Array(halves.buffer) };
}

/**
 * The elements of an F32, F16, BF16 or F64 tensor.
 * F32 keeps every bit, and is a view where the file's alignment allows; F16 and BF16 are exact, F64 rounds to nearest.
 */
export function asFloat32(tensor: StoredTensor): Float32Array {
  switch (tensor.dtype) {
    case "F32": {
      const { buffer, byteOffset, length } = aligned(tensor.data, 4);
      return new Float32Array(buffer, byteOffset, length / 4);
    }
    case "F64": {
      const { buffer, byteOffset, length } = aligned(tensor.data, 8);
      return Float32Array.from(new Float64Array(buffer, byteOffset, length / 8));
    }
    case "F16":
      return widen(tensor.data, halfToSingle);
    case "BF16":
      return widen(tensor.data, (bits) => bits << 16);
    default:
      throw new FormatError(`Expected a tensor of F32, F16, BF16 or F64, got ${tensor.dtype}.`);
  }
}

function aligned(data: Uint8Array, size: number): Uint8Array {
  return data.byteOffset % size === 0 ? data : new Uint8Array(data);
}

/** Works on bits, not numbers, so that NaN keeps its payload. */
function widen(data: Uint8Array, convert: (bits: number) => number): Float32Array {
  const { buffer, byteOffset, length } = aligned(data, 2);
  const bits = Uint32Array.from(new Uint16Array(buffer, byteOffset, length / 2), convert);
  return new Float32Array(bits.buffer);
}

function halfToSingle(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // A subnormal half is a normal single: shift the leading one into its place.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

function singleToHalf(single: number): number {
  const sign = (single >>> 16) & 0x8000;
  const exponent = (single >>> 23) & 255;
  const mantissa = single & 0x7fffff;
  if (exponent === 255 && mantissa > 0) return sign | 0x7c00 | (mantissa >> 13 || 0x200);
  if (exponent > 142) return sign | 0x7c00; // 2^16 or more
  if (exponent > 112) return sign | shiftedToEven(((exponent - 112) << 23) | mantissa, 13); // a carry enters the exponent
  // Counts steps of 2^-24; what lies below half of one is 0.
  return exponent < 102 ? sign : sign | shiftedToEven(0x800000 | mantissa, 126 - exponent);
}

/** `value / 2^bits`, rounded to nearest even. */
function shiftedToEven(value: number, bits: number): number {
  return (value + (1 << (bits - 1)) - 1 + ((value >> bits) & 1)) >> bits;
}
