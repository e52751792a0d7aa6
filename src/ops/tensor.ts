/** A dense float32 (N, H, W, C) tensor in the arena: an address and a shape, no maths. */
export class Tensor {
  /** Gradient of the same shape, once something has been written to it. */
  grad: Tensor | null = null;

  constructor(
    /** Byte offset into the arena. */
    readonly at: number,
    readonly n: number,
    readonly h: number,
    readonly w: number,
    readonly c: number,
    /** False for images and frozen features: no gradient is computed for them. */
    readonly needsGrad: boolean,
  ) {}

  get size(): number {
    return this.n * this.h * this.w * this.c;
  }

  /** Rows of C values. */
  get rows(): number {
    return this.n * this.h * this.w;
  }

  get shape(): string {
    return `(${this.n}, ${this.h}, ${this.w}, ${this.c})`;
  }
}
