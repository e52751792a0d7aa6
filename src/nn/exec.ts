/**
 * What a network can be asked to do with a layer. The walk through a network (blocks.ts) is written once against this
 * interface; training, the compiled plan, the MAdds count and the ONNX graph are its implementations. T stands for an activation.
 */
import type { Activation } from "../ops/activation.js";
import type { PoolWindow } from "../ops/pool.js";
import type { Conv, Depthwise, Gate, Norm } from "./layers.js";
import type { Position, Slot } from "./width.js";

export interface Exec<T> {
  /** act(norm(conv(x))) at the position's slot of the layer's output widths. */
  conv(x: T, conv: Conv, norm: Norm | null, act: Activation, at: Position): T;
  /** act(norm(depthwise(x))); the width is x's. */
  depthwise(x: T, conv: Depthwise, norm: Norm, act: Activation, at: Position): T;
  pool(x: T, window: PoolWindow): T;
  /** Mean over the pixels. */
  globalPool(x: T): T;
  /** x times one factor per image and channel. */
  scale(x: T, factor: T): T;
  /** act(a + b), the residual sum; widths may differ (ops/add.ts). */
  add(a: T, b: T, act: Activation): T;
  /** The slot that all after this gate use. `reduced` gives its features of the image: what does not choose need not ask for them. */
  gate(gate: Gate, reduced: () => T, at: Position): Slot;
  /** Pooled features on their way into the classifier: dropout's place. */
  features(x: T): T;
}
