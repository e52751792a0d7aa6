/**
 * The records of kernels/dsn.h, field by field: 24 32-bit words each, the op first, then offsets, then integers, then floats. A test
 * compares this table with the header, where the fields' meaning is explained. A field marked `?` may be left out: 0.
 */
export const RECORD_WORDS = 24;
export const RECORD_BYTES = RECORD_WORDS * 4;
/** Output channels in a panel of weights. */
export const PANEL = 16;
/** Rows of an image that a depthwise convolution computes at a time, and of which it can tell the mean. */
export const BAND = 7;

/** Activations fused into kernels. */
export const ACT = { none: 0, relu: 1, swish: 2, sigmoid: 3 } as const;

const CONV = {
  offsets: ["x", "w", "y", "scale?", "shift?", "scratch?"],
  ints: ["n", "h", "width", "cin", "cout", "kernel", "stride", "pad", "oh", "ow", "cin_max", "act?"],
  floats: [],
} as const;

export const RECORDS = {
  end: { code: 0, offsets: [], ints: [], floats: [] },
  conv: { code: 1, ...CONV },
  conv_dx: {
    code: 2,
    offsets: ["dy", "wt", "dx", "scratch?"],
    ints: ["n", "h", "width", "cin", "cout", "kernel", "stride", "pad", "oh", "ow", "cout_max", "accumulate?"],
    floats: [],
  },
  conv_dw: {
    code: 3,
    offsets: ["x", "dy", "dw", "scratch?"],
    ints: ["n", "h", "width", "cin", "cout", "kernel", "stride", "pad", "oh", "ow", "cin_max"],
    floats: [],
  },
  transpose: { code: 4, offsets: ["w", "wt"], ints: ["taps", "cin_max", "cout_max"], floats: [] },
  depthwise: {
    code: 5,
    offsets: ["x", "w", "y", "scale?", "shift?", "means?"],
    ints: ["n", "h", "width", "c", "kernel", "stride", "pad", "oh", "ow", "cmax", "act?"],
    floats: [],
  },
  depthwise_dx: {
    code: 6,
    offsets: ["dy", "w", "dx"],
    ints: ["n", "h", "width", "c", "kernel", "stride", "pad", "oh", "ow", "cmax", "accumulate?"],
    floats: [],
  },
  depthwise_dw: {
    code: 7,
    offsets: ["x", "dy", "dw", "scratch?"],
    ints: ["n", "h", "width", "c", "kernel", "stride", "pad", "oh", "ow", "cmax"],
    floats: [],
  },
  batch_norm: {
    code: 8,
    offsets: ["x", "y", "gamma", "beta", "mean", "inv", "running_mean?", "running_var?", "batch_var?", "scratch?"],
    ints: ["rows", "c", "act?"],
    floats: ["eps", "momentum"],
  },
  batch_norm_dx: {
    code: 9,
    offsets: ["x", "dy", "dx?", "gamma", "beta", "mean", "inv", "dgamma", "dbeta", "scratch?"],
    ints: ["rows", "c", "act?"],
    floats: [],
  },
  group_norm: {
    code: 10,
    offsets: ["x", "y", "gamma", "beta", "mean", "inv", "scratch?"],
    ints: ["n", "hw", "c", "group", "act?"],
    floats: ["eps"],
  },
  group_norm_dx: {
    code: 11,
    offsets: ["x", "dy", "dx?", "gamma", "beta", "mean", "inv", "dgamma", "dbeta", "scratch?"],
    ints: ["n", "hw", "c", "group", "act?"],
    floats: [],
  },
  affine: {
    code: 12,
    offsets: ["x", "y", "scale?", "shift?"],
    ints: ["n", "hw", "c", "per_image?", "act?"],
    floats: [],
  },
  affine_dx: {
    code: 13,
    offsets: ["x", "dy", "dx?", "scale?", "shift?", "dscale?", "dshift?", "scratch?"],
    ints: ["n", "hw", "c", "per_image?", "act?"],
    floats: [],
  },
  pool: {
    code: 14,
    offsets: ["x", "y"],
    ints: ["n", "h", "width", "c", "kernel", "stride", "pad", "oh", "ow", "kind"],
    floats: [],
  },
  pool_dx: {
    code: 15,
    offsets: ["x?", "dy", "dx"],
    ints: ["n", "h", "width", "c", "kernel", "stride", "pad", "oh", "ow", "kind", "accumulate?"],
    floats: [],
  },
  add: { code: 16, offsets: ["a", "b", "y"], ints: ["n", "hw", "ca", "cb", "act?"], floats: [] },
  add_dx: { code: 17, offsets: ["a", "b", "dy", "da?", "db?"], ints: ["n", "hw", "ca", "cb", "act?"], floats: [] },
  softmax: { code: 18, offsets: ["x", "y"], ints: ["n", "c"], floats: [] },
  cross_entropy: {
    code: 19,
    offsets: ["x", "labels?", "probs?", "loss", "dx"],
    ints: ["n", "c"],
    floats: ["smoothing", "weight"],
  },
  column_sum: { code: 20, offsets: ["x", "y", "scratch?"], ints: ["rows", "c"], floats: [] },
  sgd: { code: 21, offsets: ["p", "g", "m"], ints: ["count", "nesterov"], floats: ["lr", "momentum", "decay"] },
  ema: { code: 22, offsets: ["t", "s"], ints: ["count"], floats: ["decay"] },
  fill: { code: 23, offsets: ["x"], ints: ["count"], floats: ["value"] },
  count_nonfinite: { code: 24, offsets: ["x", "result"], ints: ["count"], floats: [] },
  route: { code: 25, offsets: ["scores", "bias?", "choice", "targets"], ints: ["count"], floats: [] },
  conv_bf16: { code: 26, ...CONV },
  to_bf16: { code: 27, offsets: ["x", "y", "scale?"], ints: ["n", "hw", "c"], floats: [] },
} as const;

type Table = typeof RECORDS;
export type OpName = keyof Table;

type FieldOf<K extends OpName> = Table[K]["offsets" | "ints" | "floats"][number];
type Fields<F extends string> = { [P in F as P extends `${string}?` ? never : P]: number } & {
  [P in F as P extends `${infer Name}?` ? Name : never]?: number;
};

/** One kernel call: the op and its fields. */
export type Call = { [K in OpName]: { op: K } & Fields<FieldOf<K>> }[OpName];

interface Layout {
  code: number;
  /** Fields of the words 1, 2, ...; those from `floats` on are floats. */
  fields: string[];
  floats: number;
  /** Word of the scratch offset, 0 if the op has none. */
  scratch: number;
}

const LAYOUTS = Object.fromEntries(
  Object.entries(RECORDS).map(([op, { code, offsets, ints, floats }]) => {
    const fields = [...offsets, ...ints, ...floats].map((field: string) => field.replace("?", ""));
    const layout = { code, fields, floats: offsets.length + ints.length, scratch: fields.indexOf("scratch") + 1 };
    return [op, layout];
  }),
) as Record<OpName, Layout>;

/** Writes a record at word `at` of the arena. `i32` and `f32` are views over the same memory. */
export function encode(i32: Int32Array, f32: Float32Array, at: number, call: Call): void {
  const { code, fields, floats } = LAYOUTS[call.op];
  const values = call as unknown as Record<string, number | undefined>;
  i32[at] = code;
  for (let i = 0; i < floats; i++) i32[at + 1 + i] = values[fields[i]!] ?? 0;
  for (let i = floats; i < fields.length; i++) f32[at + 1 + i] = values[fields[i]!] ?? 0;
}

/** The word of the op's record that holds the offset of its scratch, 0 if it needs none. */
export const scratchWord = (op: OpName): number => LAYOUTS[op].scratch;
