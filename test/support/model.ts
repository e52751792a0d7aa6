/** A model file without a training: random weights, statistics and a budget table measured on random images. */
import { openBackend } from "../../src/backend/open.js";
import { madds } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import { calibrationTable } from "../../src/evaluate/calibrate.js";
import { type Preprocessing, preprocess } from "../../src/image/preprocess.js";
import { fromRaw, type RawImage } from "../../src/image/raw.js";
import type { ModelFile } from "../../src/io/model-file.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { allocSpan, initState, writeState } from "../../src/models/state.js";
import { Tensor } from "../../src/ops/tensor.js";
import { Philox } from "../../src/random/philox.js";
import { calibratedSlots, Recalibration } from "../../src/train/recalibrate.js";

const preprocessing: Preprocessing = {
  height: 28,
  width: 28,
  channels: 1,
  mean: [0.4],
  std: [0.3],
  interpolation: "bicubic",
  cropPct: 1,
};

/** Grey images of 28×28 with a stripe each, more or less noisy. */
export function stripes(count: number, seed = 0): RawImage[] {
  return Array.from({ length: count }, (_, i) => {
    const random = new Philox(seed, i, "stripes");
    const [slope, place, noise] = [random.float() * 2 - 1, 6 + random.int(16), random.int(120)];
    const data = Uint8Array.from({ length: 28 * 28 }, (_, at) => {
      const distance = Math.abs((at % 28) - place - slope * (Math.floor(at / 28) - 14));
      return Math.max(0, 210 - 60 * distance) + (random.int(noise + 1) * 45) / 120;
    });
    return { data, width: 28, height: 28 };
  });
}

/** `ds_mbnet_28`; the images that its table was measured on are `stripes(64)`. */
export async function sampleModel(): Promise<ModelFile> {
  const backend = await openBackend({ device: "wasm", threads: 1 });
  try {
    const spec = modelSpec("ds_mbnet_28");
    const net = build(spec);
    const span = allocSpan(backend, net.layout.floats);
    initState(backend, net, span, 1);
    const images = stripes(64);
    const plan = new Plan(backend, net, span, { batch: images.length });
    images.forEach((image, i) => {
      backend.f32.set(preprocess(fromRaw(image), preprocessing), plan.input / 4 + i * 28 * 28);
    });
    const recalibration = new Recalibration(backend, net, span, "paper");
    recalibration.add(new Tensor(plan.input, images.length, 28, 28, 1, false));
    plan.refresh();
    const { candidates } = net.gates[0]!;
    const scores = plan.gateScores(images.length);
    const random = new Philox(0, "correct");
    const correct = Uint8Array.from(scores, () => random.int(2));
    return {
      model: { name: "ds_mbnet_28", spec },
      classes: Array.from({ length: spec.classes }, (_, c) => `class ${c}`),
      preprocessing: preprocessing as ModelFile["preprocessing"],
      candidates: [...candidates],
      calibrated: calibratedSlots(net, "paper"),
      calibration: calibrationTable(
        { scores, correct, images: images.length },
        candidates.map((k) => madds(net, k, true)),
      ),
      tensors: writeState(backend, net, span),
    };
  } finally {
    backend.dispose();
  }
}
