/** The slimming head's scores, for any Exec: a linear layer, or one hidden layer with ReLU before it. */
import type { Exec } from "./exec.js";
import type { Gate } from "./layers.js";
import type { Slot } from "./width.js";

export function gateScores<T>(exec: Pick<Exec<T>, "conv">, gate: Gate, reduced: T, slot: Slot): T {
  const x = gate.hidden === null ? reduced : exec.conv(reduced, gate.hidden, null, "relu", slot);
  return exec.conv(x, gate.head, null, "none", slot);
}
