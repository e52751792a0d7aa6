/** How long a network takes at each width, and where it chooses, against what its MAdds promise and what this machine can do. */
import type { Backend, Precision } from "../backend/backend.js";
import { candidateCosts, layerCosts, madds } from "../cost/madds.js";
import { forcedRoute } from "../engine/latency.js";
import { Plan } from "../engine/plan.js";
import { quantile, timeInTurns } from "../engine/timing.js";
import { UsageError } from "../errors.js";
import { type ModelFile, routingOf } from "../io/model-file.js";
import { type Supernet, topSlot } from "../models/build.js";
import { gateLayers } from "../nn/gate.js";
import type { Route, Slot } from "../nn/width.js";
import { pointOf } from "./calibrate.js";
import { measuredPeak } from "./peak.js";

export interface BenchmarkOptions {
  /** Images a call. Default 1. */
  batch?: number;
  /** Samples of each row; default 50. */
  rounds?: number;
  /** Also run the gate. Default: where the network has gates. */
  dynamic?: boolean;
  /** How the model chooses, and its tables: `dynamic` takes the routes that these have there. Without them all candidates alike. */
  model?: Pick<ModelFile, "routing" | "calibration" | "cascades"> | undefined;
  /** Also time every layer on this route. */
  layersAt?: Route;
  onProgress?: (done: number, total: number) => void;
}

export interface BenchmarkRow {
  kind: "width" | "largest" | "dynamic";
  /** Number of the width, for rows of kind `width`. */
  width?: number;
  /** Of one image; the mean for `dynamic`. */
  madds: number;
  /** Milliseconds of one image: median and 90 % quantile over the rounds, for `dynamic` of the mean over its routes. */
  median: number;
  p90: number;
  /** 10⁹ multiply-adds a second. */
  gmacs: number;
  /** Of the machine's measured peak. */
  peakShare: number;
  /** How many times faster than the widest numbered width. */
  delivered: number;
  /** The same by MAdds. */
  theoretical: number;
}

export interface LayerTime {
  name: string;
  /** How many kernel calls go by this name. */
  calls: number;
  madds: number;
  /** Median milliseconds of one image. */
  ms: number;
  gmacs: number;
}

export interface Benchmark {
  kernels: string;
  precision: Precision;
  threads: number;
  batch: number;
  rounds: number;
  /** The best matrix product of these kernels on these threads, 10⁹ multiply-adds a second. */
  peakGmacs: number;
  rows: BenchmarkRow[];
  /** Of the layers that choose, all gates together. Null without gates. */
  gate: { madds: number; ms: number } | null;
  /** Bytes of the weights, and of all that running needs besides: activations, sized by their lifetimes, for all widths. */
  memory: { weights: number; plan: number };
  layers?: { route: Route; rows: LayerTime[] };
}

/**
 * Times every width, every choice, and layers on random images; rows take turns. The weights in `span` may be random too: only
 * choices depend on them, and those are forced. Takes rounds × the time of all rows.
 */
export function benchmark(backend: Backend, net: Supernet, span: number, options: BenchmarkOptions = {}): Benchmark {
  const { batch = 1, rounds = 50, dynamic = net.gates.length > 0, model = {}, layersAt, onProgress } = options;
  for (const [name, value] of Object.entries({ batch, rounds })) {
    if (!(Number.isInteger(value) && value >= 1)) throw new UsageError(`${name}: expected 1 or more, got ${value}`);
  }
  const top = topSlot(net);
  const slots: Slot[] = Array.from({ length: net.widths }, (_, k) => k);
  if (top === "largest") slots.push(top);
  const recordsAt = layersAt === undefined || layersAt === "largest" ? top : layersAt;
  if (![recordsAt].flat().every((slot) => slots.includes(slot))) {
    throw new UsageError(`layers: expected widths from 0 to ${net.widths - 1} or largest, got ${recordsAt}`);
  }
  const before = backend.arena.inUse;
  const plan = new Plan(backend, net, span, { batch, slots, dynamic });
  const memory = { weights: net.layout.floats * 4, plan: backend.arena.inUse - before };
  try {
    const { height, width, channels } = net.spec.input;
    for (let i = 0; i < batch * height * width * channels; i++) backend.f32[plan.input / 4 + i] = Math.sin(i);
    const routing = routingOf(model);
    const { by } = routing;
    const candidates = dynamic ? net.gates[0]!.candidates : [];
    const records = plan.records(recordsAt);
    const tasks = [
      ...slots.map((slot) => () => plan.run(batch, slot)),
      ...candidates.map((_, k) => forcedRoute(plan, net, batch, by, k)),
      ...records.map((record) => () => record.run(batch)),
    ];
    const onRound = (done: number) => onProgress?.(done, rounds);
    const times = timeInTurns(tasks, { rounds, onRound }).map((samples) => samples.map((ms) => ms / batch));
    const fixed = times.splice(0, slots.length);
    const routed = times.splice(0, candidates.length);
    const layers = layerTimes(net, recordsAt, records, times);

    const peak = measuredPeak(backend, net.precision);
    const widest = { madds: madds(net, net.widths - 1), ms: quantile(fixed[net.widths - 1]!, 0.5) };
    const row = (kind: BenchmarkRow["kind"], cost: number, samples: Float64Array): BenchmarkRow => {
      const [median, p90] = [quantile(samples, 0.5), quantile(samples, 0.9)];
      const gmacs = cost / median / 1e6;
      const [delivered, theoretical] = [widest.ms / median, widest.madds / cost];
      return { kind, madds: cost, median, p90, gmacs, peakShare: (gmacs * 1e9) / peak, delivered, theoretical };
    };
    const rows = slots.map((slot, i) => {
      const cost = madds(net, slot);
      return slot === "largest" ? row(slot, cost, fixed[i]!) : { ...row("width", cost, fixed[i]!), width: slot };
    });
    if (dynamic) {
      const even = candidates.map(() => 1 / candidates.length);
      const shares = pointOf(model, routing)?.shares ?? even;
      const costs = candidateCosts(net, by);
      const mean = (value: (k: number) => number) => shares.reduce((sum, share, k) => sum + share * value(k), 0);
      const cost = mean((k) => costs[k]!);
      rows.push(
        row(
          "dynamic",
          cost,
          Float64Array.from({ length: rounds }, (_, round) => mean((k) => routed[k]![round]!)),
        ),
      );
    }
    return {
      kernels: backend.build,
      precision: net.precision,
      threads: backend.threads,
      batch,
      rounds,
      peakGmacs: peak / 1e9,
      rows,
      gate: dynamic ? gateCost(net, layers) : null,
      memory,
      ...(layersAt === undefined ? {} : { layers: { route: recordsAt, rows: layers } }),
    };
  } finally {
    plan.dispose();
  }
}

/** Records of one name together, in the order of their first. `times`: [record][round], run one after another. */
function layerTimes(
  net: Supernet,
  route: Route,
  records: readonly { name: string }[],
  times: readonly Float64Array[],
): LayerTime[] {
  const costs = new Map<string, number>();
  for (const { name, madds } of layerCosts(net, route, true)) costs.set(name, (costs.get(name) ?? 0) + madds);
  const found = new Map<string, LayerTime>();
  records.forEach(({ name }, i) => {
    const layer = found.get(name) ?? { name, calls: 0, madds: costs.get(name) ?? 0, ms: 0, gmacs: 0 };
    layer.calls++;
    layer.ms += quantile(times[i]!, 0.5);
    layer.gmacs = layer.madds / layer.ms / 1e6;
    found.set(name, layer);
  });
  return [...found.values()];
}

function gateCost(net: Supernet, layers: readonly LayerTime[]): { madds: number; ms: number } {
  const names = new Set(net.gates.flatMap(gateLayers).map(({ name }) => name));
  const own = layers.filter(({ name }) => names.has(name));
  return {
    madds: own.reduce((sum, layer) => sum + layer.madds, 0),
    ms: own.reduce((sum, layer) => sum + layer.ms, 0),
  };
}
