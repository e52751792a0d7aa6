/** What this build of the kernels reaches at best: the yardstick for what it reaches in a network. */
import type { Backend, Precision } from "../backend/backend.js";
import { encode, RECORD_BYTES, scratchWord } from "../backend/records.js";
import { timeInTurns } from "../engine/timing.js";

/**
 * Matrix products, rows × k × columns: the small ones stay in a core's nearest caches, the large ones are worth sharing among
 * threads. Rows fill the tiles of every instruction set (12, 6 and 4 rows).
 */
const SHAPES = [
  [48, 256, 32],
  [96, 128, 64],
  [96, 256, 64],
  [192, 256, 128],
  [384, 256, 256],
] as const;

/** Multiply-adds a second of the best of some matrix products, on the backend's threads. In about a quarter of a second. */
export function measuredPeak(backend: Backend, precision: Precision = "fp32"): number {
  return backend.arena.scope(() => {
    const products = SHAPES.map(([rows, k, columns]) =>
      product(backend, precision, rows * backend.threads, k, columns),
    );
    const times = timeInTurns(
      products.map(({ run }) => run),
      { rounds: 40, sampleMs: 1.5 },
    );
    return Math.max(...products.map(({ madds }, i) => (1000 * madds) / Math.min(...times[i]!)));
  });
}

/** A convolution of 1×1 on memory of its own, of the innermost scope. */
function product(backend: Backend, precision: Precision, rows: number, k: number, columns: number) {
  const { arena } = backend;
  const bf16 = precision === "bf16";
  const words = bf16 ? k / 2 : k; // what the pairs hold does not matter for the time
  const filled = (floats: number) => {
    const at = arena.alloc(floats * 4);
    for (let i = 0; i < floats; i++) backend.f32[at / 4 + i] = Math.sin(i);
    return at;
  };
  const [x, w, y] = [filled(rows * words), filled(words * columns), filled(rows * columns)];
  const record = arena.alloc(RECORD_BYTES);
  encode(backend.i32, backend.f32, record / 4, {
    ...{
      op: bf16 ? "conv_bf16" : "conv",
      x,
      w,
      y,
      n: 1,
      h: rows,
      width: 1,
      cin: k,
      cout: columns,
      kernel: 1,
      stride: 1,
      pad: 0,
    },
    ...{ oh: rows, ow: 1, cin_max: k },
  });
  const scratch = backend.scratchBytes(record);
  if (scratch > 0) backend.i32[record / 4 + scratchWord("conv")] = arena.alloc(scratch);
  return { madds: rows * k * columns, run: () => backend.run(record, 1) };
}
