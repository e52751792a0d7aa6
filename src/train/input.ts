/** A batch's place in the arena: images and labels, written anew at every step. */
import type { Backend } from "../backend/backend.js";
import type { Supernet } from "../models/build.js";
import { Tensor } from "../ops/tensor.js";

export class Input {
  readonly images: number;
  readonly labels: number;
  readonly #backend: Backend;
  readonly #net: Supernet;

  constructor(backend: Backend, net: Supernet, batch: number) {
    const { height, width, channels } = net.spec.input;
    this.#backend = backend;
    this.#net = net;
    this.images = backend.arena.alloc(batch * height * width * channels * 4, true);
    this.labels = backend.arena.alloc(batch * 4, true);
  }

  /** `images`: (n, height, width, channels), normalised. */
  write(images: Float32Array, labels: Int32Array): Tensor {
    const { height, width, channels } = this.#net.spec.input;
    this.#backend.f32.set(images, this.images / 4);
    this.#backend.i32.set(labels, this.labels / 4);
    return new Tensor(this.images, labels.length, height, width, channels, false);
  }

  dispose(): void {
    this.#backend.arena.free(this.images);
    this.#backend.arena.free(this.labels);
  }
}
