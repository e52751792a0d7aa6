/**
 * What the gate learns from, computed once: with backbone, encoder and attention frozen, an image is its reduced features,
 * and its loss at every candidate is a constant.
 */
import type { Backend } from "../backend/backend.js";
import type { Batch } from "../data/batch.js";
import { Plan } from "../engine/plan.js";
import { topClass } from "../evaluate/top1.js";
import type { Supernet } from "../models/build.js";
import { gateLayers } from "../nn/gate.js";
import { logSumExp } from "../ops/softmax.js";
import type { GateTargets } from "./gate-loss.js";

export interface GateSet extends GateTargets {
  /** Reduced features that the gate reads, [image][feature]. */
  features: Float32Array;
  /** Number of features. */
  width: number;
  images: number;
  /** How many of them, the first, are images as they are; the others are augmented. */
  clean: number;
}

/**
 * Every batch of every view through the part before the gate and through every candidate. The first view is the images as
 * they are. Only for networks with one gate.
 */
export async function gateSet(
  backend: Backend,
  net: Supernet,
  span: number,
  views: readonly AsyncIterable<Batch>[],
  batch: number,
  onProgress?: (images: number) => void,
): Promise<GateSet> {
  const gate = net.gates[0]!;
  const { candidates } = gate;
  const plan = new Plan(backend, net, span, { batch, slots: candidates, dynamic: true });
  const features: Float32Array[] = [];
  const losses: number[] = [];
  const correct: number[] = [];
  let images = 0;
  let clean = 0;
  try {
    const classes = net.spec.classes;
    for (const [view, batches] of views.entries()) {
      for await (const { images: pixels, labels, size } of batches) {
        backend.f32.set(pixels, plan.input / 4);
        features.push(plan.gateFeatures(size));
        const at = losses.length;
        candidates.forEach((slot, k) => {
          plan.run(size, slot);
          const logits = plan.readLogits(size);
          for (let i = 0; i < size; i++) {
            const row = logits.subarray(i * classes, (i + 1) * classes);
            losses[at + i * candidates.length + k] = logSumExp(row) - row[labels[i]!]!;
            correct[at + i * candidates.length + k] = topClass(row) === labels[i] ? 1 : 0;
          }
        });
        images += size;
        if (view === 0) clean = images;
        onProgress?.(images);
      }
    }
  } finally {
    plan.dispose();
  }
  const width = gateLayers(gate)[0]!.cin[0]!;
  const all = new Float32Array(images * width);
  let at = 0;
  for (const part of features) {
    all.set(part, at);
    at += part.length;
  }
  return { features: all, width, images, clean, losses: Float32Array.from(losses), correct: Uint8Array.from(correct) };
}
