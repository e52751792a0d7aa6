/** Activations by name, and the codes the kernels know them by. */
import { ACT } from "../backend/records.js";

export type Activation = "none" | "relu" | "swish" | "sigmoid";

export const actCode: Readonly<Record<Activation, number>> = ACT;
