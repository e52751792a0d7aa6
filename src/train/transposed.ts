/** Transposed copies of the convolution weights, which the gradient of the input reads. Made anew after every step. */
import type { Backend } from "../backend/backend.js";
import { encode, PANEL, RECORD_BYTES } from "../backend/records.js";
import type { Supernet } from "../models/build.js";
import type { Conv } from "../nn/layers.js";

export class TransposedWeights {
  readonly #at = new Map<Conv, number>();
  readonly #backend: Backend;
  readonly #records: number;
  readonly #count: number;

  constructor(backend: Backend, net: Supernet, span: number) {
    this.#backend = backend;
    const convs = [...new Set(net.convs)].slice(1); // the stem's input is the image
    this.#count = convs.length;
    this.#records = backend.arena.alloc(convs.length * RECORD_BYTES, true);
    convs.forEach((conv, i) => {
      const [cout, cin, kh, kw] = conv.weight.shape as [number, number, number, number];
      const taps = kh * kw;
      const at = backend.arena.alloc(Math.ceil(cin / PANEL) * PANEL * taps * cout * 4, true);
      this.#at.set(conv, at);
      const call = { op: "transpose", w: conv.weight.in(span), wt: at, taps, cin_max: cin, cout_max: cout } as const;
      encode(backend.i32, backend.f32, (this.#records + i * RECORD_BYTES) / 4, call);
    });
    this.refresh();
  }

  at(conv: Conv): number {
    return this.#at.get(conv) ?? 0;
  }

  refresh(): void {
    this.#backend.run(this.#records, this.#count);
  }

  dispose(): void {
    this.#backend.arena.free(this.#records);
    for (const at of this.#at.values()) this.#backend.arena.free(at);
  }
}
