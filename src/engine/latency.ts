/** How long this device takes for an image at each of the gate's candidates: what a budget in milliseconds is reckoned with. */
import { platform } from "#platform";
import type { Backend } from "../backend/backend.js";
import { KERNELS_HASH } from "../backend/generated/kernels-hash.js";
import type { Routing } from "../io/model-file.js";
import type { Supernet } from "../models/build.js";
import type { Plan } from "./plan.js";
import { quantile, timeInTurns } from "./timing.js";

/** A measurement takes about this long, but for slow networks. */
const TOTAL_MS = 800;
/** What a clock of a browser, 0.1 ms or finer, can tell apart. */
const SAMPLE_MS = 2;

/**
 * Median milliseconds of one image where all gates choose their k-th candidate, by k, gates included; or where a cascade ends there,
 * the slimmest candidate included. Measured once for a device and remembered, for as long as processor, kernels, threads, precision
 * and network are the same; `fresh` measures anew. `plan`: for one image, dynamic; its images and biases are lost.
 */
export function deviceLatency(
  backend: Backend,
  net: Supernet,
  plan: Plan,
  by: Routing["by"],
  { fresh = false } = {},
): number[] {
  const { candidates } = net.gates[0]!;
  const key = JSON.stringify([
    platform.processor(),
    KERNELS_HASH,
    backend.build,
    backend.threads,
    net.precision,
    net.spec,
    by,
  ]);
  const known = fresh ? null : parse(platform.recall(key), candidates.length);
  if (known !== null) return known;
  const latency = measure(backend, net, plan, by);
  platform.remember(key, JSON.stringify(latency));
  return latency;
}

function measure(backend: Backend, net: Supernet, plan: Plan, by: Routing["by"]): number[] {
  const { height, width, channels } = net.spec.input;
  for (let i = 0; i < height * width * channels; i++) backend.f32[plan.input / 4 + i] = Math.sin(i);
  const tasks = net.gates[0]!.candidates.map((_, k) => forcedRoute(plan, net, 1, by, k));
  const once = timeInTurns(tasks, { rounds: 1 }).reduce((sum, [ms]) => sum + Math.max(ms!, SAMPLE_MS), 0);
  const rounds = Math.max(5, Math.min(40, Math.round(TOTAL_MS / once)));
  return timeInTurns(tasks, { rounds, sampleMs: SAMPLE_MS }).map((times) => quantile(times, 0.5));
}

/** A run of the plan on n images in which every gate chooses its k-th candidate, or a cascade ends at it, whatever the scores. */
export function forcedRoute(plan: Plan, net: Supernet, n: number, by: Routing["by"], k: number): () => void {
  if (by === "cascade") {
    // No confidence is below 0, every one is below 2.
    const cascade = { wider: net.gates[0]!.candidates[k]!, threshold: k === 0 ? 0 : 2 };
    return () => void plan.runCascade(n, cascade);
  }
  const biases = net.gates.map(({ candidates }) => candidates.map((_, i) => (i === k ? 1e30 : 0)));
  return () => {
    biases.forEach((bias, gate) => {
      plan.setBias(gate, bias);
    });
    plan.runDynamic(n);
  };
}

function parse(text: string | null, candidates: number): number[] | null {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    const fits = Array.isArray(value) && value.length === candidates && value.every((ms) => ms > 0);
    return fits ? value : null;
  } catch {
    return null; // cut short by a crash, or not ours: measured anew
  }
}
