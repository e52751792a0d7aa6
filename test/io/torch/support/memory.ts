/** Watches how much memory code asks for. */

/** The longest byte array that `run` makes anew, in bytes; views do not count. */
export function largestAllocation(run: () => void): number {
  const original = globalThis.Uint8Array;
  let largest = 0;
  globalThis.Uint8Array = new Proxy(original, {
    construct(target, args, newTarget) {
      const [first] = args;
      const size = typeof first === "number" ? first : ArrayBuffer.isView(first) ? first.byteLength : 0;
      largest = Math.max(largest, size);
      return Reflect.construct(target, args, newTarget);
    },
  });
  try {
    run();
  } finally {
    globalThis.Uint8Array = original;
  }
  return largest;
}
