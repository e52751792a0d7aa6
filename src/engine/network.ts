/** A trained network, ready to classify: the public face of the engine. */
import type { Backend, Precision } from "../backend/backend.js";
import { candidateCosts, madds } from "../cost/madds.js";
import { ShapeError, UsageError } from "../errors.js";
import { type ImageInput, readImage } from "../image/input.js";
import { preprocess } from "../image/preprocess.js";
import { type CalibrationPoint, type ModelFile, type Routing, routingOf } from "../io/model-file.js";
import { namingLater } from "../io/place.js";
import type { Supernet } from "../models/build.js";
import { checkCalibrated, networkOf } from "../models/file.js";
import type { ModelSpec } from "../models/spec.js";
import { loadSpan } from "../models/state.js";
import { channelsAt, type Route, type Slot } from "../nn/width.js";
import { softmax } from "../ops/softmax.js";
import { type Budget, BudgetTable } from "./budget.js";
import { deviceLatency } from "./latency.js";
import { checkKeys } from "./options.js";
import { Plan } from "./plan.js";

/** A width by number or by name; or a route, a width for each gate in order; `dynamic` lets the model choose. */
export type Width = number | "largest" | "smallest" | "dynamic" | readonly number[];

export interface ClassifyOptions {
  /** Labels for each image, best first. Default 5. */
  topK?: number;
  /** Default: `dynamic` where the model has a trained gate, else the highest numbered width. */
  width?: Width;
  /** What the choice keeps to. With `ms` the first call measures this device, for about a second, if that was never done. */
  budget?: Budget;
}

/** Options of `run`. */
export type RunOptions = Pick<ClassifyOptions, "width" | "budget">;

export interface Classification {
  /** Best first; scores are softmax probabilities. */
  labels: { label: string; score: number }[];
  /** What was chosen at each gate, or where a cascade ended; empty at a fixed width or route. `channels`: output channels of the layer behind the gate. */
  route: { gate: string; width: number; channels: number }[];
  madds: number;
  /** Time in the engine, preprocessing not included; for several images at once the mean. */
  ms: number;
}

/** A fixed width or route, or how one is chosen. */
type Way = Route | Routing;

type RoutingPoint = Pick<CalibrationPoint, "madds" | "shares"> & { routing: Routing };

/** Largest number of images that the engine takes at once; more are run in turns. */
const MAX_BATCH = 32;

export class Network {
  readonly device: { name: string; isa: string; threads: number; precision: Precision; notes: string[] };
  readonly model: { name: string; spec: ModelSpec };
  readonly classes: readonly string[];
  /** Whether `dynamic` is there. */
  readonly gated: boolean;
  readonly #backend: Backend;
  readonly #file: Omit<ModelFile, "tensors">;
  readonly #net: Supernet;
  readonly #span: number;
  readonly #slots: readonly Slot[];
  readonly #plans = new Map<"single" | "batch", Plan>();
  /** Reckoned for the first image that a cascade answers. */
  #cascadeCosts: readonly number[] | null = null;
  /** Made when the first budget asks for it. */
  #budgets: BudgetTable<RoutingPoint> | null = null;
  #disposed = false;

  /** Takes over the backend: `dispose` ends it. FormatError where what the file holds is no network or does not fit it. */
  constructor(backend: Backend, file: ModelFile, precision: Precision = "fp32") {
    const { tensors, ...rest } = file;
    const { name, isa, threads, notes } = backend;
    this.device = { name, isa, threads, precision, notes };
    this.classes = file.classes;
    this.#backend = backend;
    this.#file = rest;
    this.#net = networkOf(file, precision);
    this.model = { name: file.model.name, spec: this.#net.spec };
    this.gated = file.candidates.length > 0 && this.#net.gates.length > 0;
    this.#span = loadSpan(backend, this.#net, tensors);
    this.#slots = file.calibrated ?? [];
  }

  /** Numbered widths, 0 the slimmest. */
  get widths(): number {
    return this.#net.widths;
  }

  /** Labels, route, MAdds and time of each image, in order. */
  async classify(images: ImageInput | readonly ImageInput[], options: ClassifyOptions = {}): Promise<Classification[]> {
    checkKeys(options, ["topK", "width", "budget"]);
    const { topK = 5 } = options;
    const list = Array.isArray(images) ? (images as readonly ImageInput[]) : [images as ImageInput];
    if (!Number.isInteger(topK) || topK < 1) throw new UsageError(`topK: expected 1 or more, got ${topK}`);
    const way = this.#way(options);
    const { preprocessing } = this.#file;
    const channels = preprocessing.channels as 1 | 3;
    const results: Classification[] = [];
    for (let from = 0; from < list.length; from += MAX_BATCH) {
      const part = list.slice(from, from + MAX_BATCH);
      const size = preprocessing.height * preprocessing.width * channels;
      const batch = new Float32Array(part.length * size);
      for (const [i, image] of part.entries()) {
        const read = readImage(image, channels);
        const place = typeof image === "string" ? image : list.length > 1 ? `image ${from + i}` : null;
        const pixels = await (place === null ? read : namingLater(place, read));
        batch.set(preprocess(pixels, preprocessing), i * size);
      }
      const { logits, routes, ms } = this.#run(batch, part.length, way);
      for (let i = 0; i < part.length; i++) {
        const row = logits.subarray(i * this.classes.length, (i + 1) * this.classes.length);
        results.push(this.#classification(row, routes?.[i], way, topK, ms / part.length));
      }
    }
    return results;
  }

  /**
   * Logits, [image][class], of `batch`: (n, height, width, channels), already preprocessed. With `dynamic` the model chooses the width.
   */
  run(batch: Float32Array, options: RunOptions = {}): Float32Array {
    checkKeys(options, ["width", "budget"]);
    const { height, width: w, channels } = this.model.spec.input;
    if (!(batch instanceof Float32Array)) throw new UsageError(`run: expected a Float32Array, got ${typeof batch}`);
    const n = batch.length / (height * w * channels);
    if (!Number.isInteger(n) || n < 1) {
      throw new ShapeError(`run: expected n × ${height} × ${w} × ${channels} values, got ${batch.length}`);
    }
    const way = this.#way(options);
    const logits = new Float32Array(n * this.classes.length);
    const size = height * w * channels;
    for (let from = 0; from < n; from += MAX_BATCH) {
      const to = Math.min(from + MAX_BATCH, n);
      const part = this.#run(batch.subarray(from * size, to * size), to - from, way);
      logits.set(part.logits, from * this.classes.length);
    }
    return logits;
  }

  /** Bytes of the arena in use. */
  memory(): number {
    return this.#backend.arena.inUse;
  }

  /** Frees memory and threads. The network is not usable afterwards. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#backend.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #run(batch: Float32Array, n: number, way: Way) {
    if (this.#disposed) throw gone();
    const plan = this.#plan(n);
    const { f32 } = this.#backend;
    f32.set(batch, plan.input / 4);
    // Costs are counted when first asked for: that is not the image's time.
    if (isRouting(way) && way.by === "gate") plan.setLambda(way.lambda);
    const started = performance.now();
    const routes = isRouting(way) ? plan.runRouted(n, way) : plan.run(n, way);
    const ms = performance.now() - started;
    return { logits: plan.readLogits(n).slice(), routes: routes ?? null, ms };
  }

  /** One plan for single images, and one for batches, which grows with them by powers of two. */
  #plan(n: number): Plan {
    const size = n === 1 ? "single" : "batch";
    const known = this.#plans.get(size);
    if (known !== undefined && known.batch >= n) return known;
    known?.dispose();
    this.#plans.delete(size); // where the larger one finds no memory, none is left
    const batch = 2 ** Math.ceil(Math.log2(n));
    const plan = new Plan(this.#backend, this.#net, this.#span, { batch, slots: this.#slots, dynamic: this.gated });
    this.#plans.set(size, plan);
    return plan;
  }

  #way({ width, budget }: RunOptions): Way {
    const highest = this.#net.widths - 1;
    const asked = width ?? (this.gated ? "dynamic" : highest);
    if (!this.gated && (budget !== undefined || asked === "dynamic")) {
      throw new UsageError(`this model has no trained gate, so it cannot choose; give a width from 0 to ${highest}`);
    }
    if (budget !== undefined && asked !== "dynamic")
      throw new UsageError("a budget chooses the width itself: leave width out");
    if (asked === "dynamic") {
      for (const { candidates } of this.#net.gates) candidates.forEach((k) => void checkCalibrated(k, this.#slots));
      return this.#routing(budget);
    }
    if (isRoute(asked)) {
      const gates = this.#net.gates.length;
      if (asked.length !== gates) {
        throw new UsageError(`width: expected a width for each of the ${gates} gates, got ${asked.length}`);
      }
      return asked.map((slot) => this.#slot(slot) as number);
    }
    return this.#slot(asked);
  }

  #slot(asked: number | "largest" | "smallest"): Slot {
    const highest = this.#net.widths - 1;
    const slot = asked === "smallest" ? 0 : asked === "largest" && this.#net.largestIsNumbered ? highest : asked;
    if (slot !== "largest" && (!Number.isInteger(slot) || slot < 0 || slot > highest)) {
      throw new UsageError(`width: expected 0 to ${highest}, largest, smallest or dynamic, got ${slot}`);
    }
    return checkCalibrated(slot, this.#slots);
  }

  /** How widths are chosen within a budget. */
  #routing(budget: Budget | undefined): Routing {
    if (this.#disposed) throw gone();
    const own = routingOf(this.#file);
    if (budget === undefined) return own;
    this.#budgets ??= this.#budgetTable(own.by);
    return this.#budgets.within(budget).routing;
  }

  #budgetTable(by: Routing["by"]): BudgetTable<RoutingPoint> {
    const net = this.#net;
    const { calibration, cascades } = this.#file;
    const points: RoutingPoint[] | undefined =
      by === "gate"
        ? calibration?.map(({ lambda, ...point }) => ({ ...point, routing: { by, lambda } }))
        : cascades?.map(({ wider, threshold, ...point }) => ({ ...point, routing: { by, wider, threshold } }));
    if (points === undefined) {
      throw new UsageError("this model has no budget table, so no budget can be kept to; dsnet calibrate measures it");
    }
    const { candidates } = net.gates[0]!;
    return new BudgetTable(points, {
      candidates,
      madds: candidateCosts(net, "gate"),
      latency: () => deviceLatency(this.#backend, net, this.#plan(1), by),
    });
  }

  #spent({ by }: Routing, route: readonly number[]): number {
    const net = this.#net;
    if (by === "gate") return madds(net, route, true);
    this.#cascadeCosts ??= candidateCosts(net, by);
    return this.#cascadeCosts[net.gates[0]!.candidates.indexOf(route[0]!)]!;
  }

  #classification(
    logits: Float32Array,
    route: readonly number[] | undefined,
    way: Way,
    topK: number,
    ms: number,
  ): Classification {
    const scores = softmax(logits);
    const labels = this.classes
      .map((label, c) => ({ label, score: scores[c]! }))
      .sort((a, b) => b.score - a.score)
      .slice(0, topK);
    const cost = isRouting(way) ? this.#spent(way, route!) : madds(this.#net, way);
    const steps = (route ?? []).map((chosen, g) => ({
      gate: this.#net.gates[g]!.name,
      width: chosen,
      channels: channelsAt(this.#net.slimWidths[g]!, chosen),
    }));
    return { labels, route: steps, madds: cost, ms };
  }
}

function isRouting(way: Way): way is Routing {
  return typeof way === "object" && "by" in way;
}

function gone(): UsageError {
  return new UsageError("this network was disposed of; load it again");
}

function isRoute(width: Exclude<RunOptions["width"], undefined>): width is readonly number[] {
  return Array.isArray(width);
}
