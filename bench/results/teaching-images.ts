/**
 * What a gate gains from more images that the supernet has not fitted: the bound of what cross-fitting could give. Held-out images as they are,
 * five folds in turns, means over three seeds:
 *
 *     npm run build && node dist/bench/results/teaching-images.js models/cifar10.safetensors --data ../shared/data/cifar10-jpeg.tar.gz
 */
import "../plain-errors.js";
import { parseArgs } from "node:util";
import { candidateCosts } from "../../src/cost/madds.js";
import { auc } from "../../src/evaluate/auc.js";
import { pointAtCost } from "../../src/evaluate/calibrate.js";
import { envelopeAt, upperEnvelope } from "../../src/evaluate/envelope.js";
import { gateLayers } from "../../src/nn/gate.js";
import { Philox } from "../../src/random/philox.js";
import { defaultConfig } from "../../src/train/defaults.js";
import { type GateSet, gateSet } from "../../src/train/gate-set.js";
import { withLabelled } from "../../src/train/labelled-node.js";
import { partsOf } from "../../src/train/parts.js";
import { learningRate } from "../../src/train/schedule.js";
import { cachedEpoch, type HeadLayer, headScores, standardised, standardOf } from "../../src/train/stage2-cached.js";
import { overSeeds } from "./seeds.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { data: { type: "string" }, holdout: { type: "string", default: "0.1" } },
});
const FOLDS = 5;
const SEEDS = [0, 1, 2];
/** SGD steps whatever the images: what changes is their number alone. */
const STEPS = 1500;
const BATCH = 64;

function pick(set: GateSet, rows: readonly number[]): GateSet {
  const candidates = set.losses.length / set.images;
  const take = <T extends Float32Array | Uint8Array>(from: T, width: number): T => {
    const to = from.slice(0, rows.length * width) as T;
    rows.forEach((row, i) => {
      to.set(from.subarray(row * width, (row + 1) * width), i * width);
    });
    return to;
  };
  return {
    features: take(set.features, set.width),
    width: set.width,
    images: rows.length,
    clean: rows.length,
    losses: take(set.losses, candidates),
    correct: take(set.correct, candidates),
  };
}

const parts = (seed: number) => ({ subset: null, seed, gate: { holdout: Number(values.holdout) } as never });
await withLabelled(
  positionals[0]!,
  { data: values.data!, split: ({ train }) => partsOf(train, parts(0)).heldOut, threads: 1 },
  async ({ file, net, backend, span, loader }) => {
    const set = await gateSet(backend, net, span, [loader.inOrder()], 100);
    const costs = candidateCosts(net, "gate");
    const count = costs.length;
    const config = { ...defaultConfig(file.model.name), seed: 0 };
    const corners = upperEnvelope(
      costs.map((madds, k) => ({
        width: k,
        madds,
        accuracy: set.correct.reduce((sum, c, i) => sum + (i % count === k ? c : 0), 0) / set.images,
      })),
    );
    const layers = (seed: number): HeadLayer[] =>
      gateLayers(net.gates[0]!).map(({ weight, bias }) => {
        const random = new Philox(seed, "init", weight.name);
        const [out, cin] = weight.shape as [number, number];
        const draw = () => random.normal() * Math.sqrt(2 / out);
        return {
          weight: Float32Array.from({ length: out * cin }, draw),
          bias: bias && new Float32Array(out),
          weightMomentum: new Float32Array(out * cin),
          biasMomentum: bias && new Float32Array(out),
          out,
          in: cin,
        };
      });
    for (const images of [250, 500, 1000, 2000, 4000]) {
      const gains: number[] = [];
      const aucs: number[] = [];
      for (const seed of SEEDS) {
        const order = Array.from({ length: set.images }, (_, i) => i);
        new Philox(seed, "folds").shuffle(order);
        const scores = new Float64Array(set.images * count);
        for (let fold = 0; fold < FOLDS; fold++) {
          const held = order.filter((_, i) => i % FOLDS === fold);
          const learned = pick(set, order.filter((_, i) => i % FOLDS !== fold).slice(0, images));
          const head = layers(seed);
          const standard = standardOf(learned, true);
          const epochs = Math.ceil((STEPS * BATCH) / images);
          for (let epoch = 0; epoch < epochs; epoch++) {
            const schedule = { lr: 0.05, epochs, min_lr: 0, warmup_lr: 0.05, warmup_epochs: 0 };
            cachedEpoch(head, standardised(learned, standard), epoch, learningRate(schedule, epoch), {
              config: { ...config.gate, method: "probability" },
              madds: costs,
              seed,
              batchSize: BATCH,
              momentum: 0.9,
            });
          }
          const answered = headScores(head, standardised(pick(set, held), standard), "probability");
          held.forEach((row, i) => {
            scores.set(answered.subarray(i * count, (i + 1) * count), row * count);
          });
        }
        const point = pointAtCost({ scores, correct: set.correct, images: set.images }, costs, costs.at(-1)! / 3);
        gains.push(100 * (point.accuracy - envelopeAt(corners, point.madds).accuracy));
        const slim = <T>(of: ArrayLike<T>) => Array.from({ length: set.images }, (_, i) => of[i * count]!);
        aucs.push(auc(Float32Array.from(slim(scores)), Uint8Array.from(slim(set.correct)))!);
      }
      const gain = overSeeds(gains)!;
      console.log(
        `${images} images: dynamic minus envelope ${gain.mean.toFixed(2)} ± ${gain.deviation.toFixed(2)} points, AUC ${overSeeds(aucs)!.mean.toFixed(3)}`,
      );
    }
  },
);
