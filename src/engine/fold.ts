/** Batch norm in evaluation mode as one scale and shift a channel. Per width, so never multiplied into the shared weights. */
import type { Backend } from "../backend/backend.js";
import { NORM_EPS, type Norm } from "../nn/layers.js";

export class FoldedNorms {
  readonly #rows = new Map<string, { norm: Norm; entry: number; scale: number; shift: number }>();

  constructor(readonly backend: Backend) {}

  /** Addresses of the norm's scale and shift at one of its entries; filled by `refresh`. */
  at(norm: Norm, entry: number): { scale: number; shift: number } {
    const key = `${norm.name} ${entry}`;
    let row = this.#rows.get(key);
    if (row === undefined) {
      const bytes = Math.ceil((norm.stats[entry]!.mean.size * 4) / 64) * 64;
      const scale = this.backend.arena.alloc(2 * bytes, true);
      row = { norm, entry, scale, shift: scale + bytes };
      this.#rows.set(key, row);
    }
    return row;
  }

  /** Computes every row from the weights and statistics in `span`, in double. */
  refresh(span: number): void {
    const f32 = this.backend.f32;
    for (const { norm, entry, scale, shift } of this.#rows.values()) {
      const stats = norm.stats[entry]!;
      const gamma = norm.weight.in(span) / 4;
      const beta = norm.bias.in(span) / 4;
      const mean = stats.mean.in(span) / 4;
      const variance = stats.var.in(span) / 4;
      for (let c = 0; c < stats.mean.size; c++) {
        const s = f32[gamma + c]! / Math.sqrt(f32[variance + c]! + NORM_EPS);
        f32[scale / 4 + c] = s;
        f32[shift / 4 + c] = f32[beta + c]! - f32[mean + c]! * s;
      }
    }
  }

  dispose(): void {
    for (const { scale } of this.#rows.values()) this.backend.arena.free(scale);
    this.#rows.clear();
  }
}
