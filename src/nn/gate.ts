/** The slimming head: a linear layer, or one hidden layer with ReLU before it; a sigmoid behind it where it learns probabilities. */
import type { Exec } from "./exec.js";
import type { Conv, Gate } from "./layers.js";
import type { Position } from "./width.js";

/** The slimming head's layers, first to last. */
export function gateLayers({ hidden, head }: Gate): Conv[] {
  return hidden === null ? [head] : [hidden, head];
}

/** Its scores, for any Exec. */
export function gateScores<T>(exec: Pick<Exec<T>, "conv">, gate: Gate, reduced: T, at: Position): T {
  const x = gate.hidden === null ? reduced : exec.conv(reduced, gate.hidden, null, "relu", at);
  return exec.conv(x, gate.head, null, gate.act, at);
}
