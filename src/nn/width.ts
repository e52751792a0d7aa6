/**
 * Widths. Every layer has a list of channel counts, narrowest first, and uses a prefix of its channels. A slot says which:
 * the index into the list, or `largest`. Before the first gate a numbered width uses slot 0; a gate sets the slot of all
 * that follows. `largest` uses the last entry everywhere, so it may be wider than the highest numbered width.
 */
export type Slot = number | "largest";

/** A slot for each gate in order, or one for all. */
export type Route = Slot | readonly number[];

/**
 * Where a walk stands among the widths: the slot in force, the slot whose width came into the last gate's block, and the one
 * whose width the activations between blocks have: a residual stream may be wider than the slot in force.
 */
export interface Position {
  readonly slot: Slot;
  readonly from: Slot;
  readonly stream: Slot;
}

export function widerSlot(a: Slot, b: Slot): Slot {
  return a === "largest" || b === "largest" ? "largest" : Math.max(a, b);
}

/** The slot that a route starts with, before the first gate. */
export function startOf(route: Route): Slot {
  return route === "largest" ? route : 0;
}

/** The slot that a route takes at a gate. */
export function choiceAt(route: Route, gate: number): Slot {
  return typeof route === "object" ? route[gate]! : route;
}

/** Index into a layer's list of widths. A list with one entry is the same at every slot. */
export function slotIndex(widths: readonly number[], slot: Slot): number {
  return slot === "largest" ? widths.length - 1 : widths.length === 1 ? 0 : slot;
}

export function channelsAt(widths: readonly number[], slot: Slot): number {
  return widths[slotIndex(widths, slot)]!;
}

export function widest(widths: readonly number[]): number {
  return widths[widths.length - 1]!;
}

/** EfficientNet's rounding: to a multiple of `divisor`, halves up, never losing more than 10 %. */
export function roundChannels(value: number, divisor: number): number {
  const rounded = Math.max(divisor, Math.floor((value + divisor / 2) / divisor) * divisor);
  return rounded < 0.9 * value ? rounded + divisor : rounded;
}
