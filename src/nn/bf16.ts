/**
 * Weights in bf16, the upper half of a float: panels of floats, [panel and tap][input][lane], ⇄ half as many words, [panel and
 * tap][pair of inputs][lane], the even input in the lower half, an odd last one paired with 0. As kernels/dsn.h wants them.
 */

/** Rounds to nearest even. `lanes`: outputs in a panel. */
export function pairPanels(panels: Float32Array, inputs: number, lanes: number, words: Float32Array): void {
  const from = new Uint32Array(panels.buffer, panels.byteOffset, panels.length);
  const to = new Uint32Array(words.buffer, words.byteOffset, words.length);
  let at = 0;
  for (let run = 0; run < from.length; run += inputs * lanes) {
    for (let input = 0; input < inputs; input += 2) {
      const even = run + input * lanes;
      for (let lane = 0; lane < lanes; lane++) {
        const odd = input + 1 < inputs ? rounded(from[even + lanes + lane]!) : 0;
        to[at++] = rounded(from[even + lane]!) | (odd << 16);
      }
    }
  }
}

/** What `pairPanels` kept of the panels. */
export function unpairPanels(words: Float32Array, inputs: number, lanes: number, panels: Float32Array): void {
  const from = new Uint32Array(words.buffer, words.byteOffset, words.length);
  const to = new Uint32Array(panels.buffer, panels.byteOffset, panels.length);
  let at = 0;
  for (let run = 0; run < to.length; run += inputs * lanes) {
    for (let input = 0; input < inputs; input += 2) {
      const even = run + input * lanes;
      for (let lane = 0; lane < lanes; lane++) {
        const pair = from[at++]!;
        to[even + lane] = pair << 16;
        if (input + 1 < inputs) to[even + lanes + lane] = pair & 0xffff0000;
      }
    }
  }
}

/** The bf16 nearest to the float with these bits. */
function rounded(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
