/** Activations by name, and the codes the kernels know them by (dsn.h). */
export type Activation = "none" | "relu" | "swish" | "sigmoid";

export const actCode: Record<Activation, number> = { none: 0, relu: 1, swish: 2, sigmoid: 3 };
