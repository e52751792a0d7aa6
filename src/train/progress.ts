/** Where a run stands: what a checkpoint stores beside the weights, so that it goes on as if nothing had happened. */
import { FormatError } from "../errors.js";
import type { TrainingState } from "../io/model-file.js";
import type { Stage } from "./events.js";

export interface Progress {
  stage: Stage;
  /** Epochs of this stage that are complete. */
  epoch: number;
  /** Optimiser steps of this stage that are complete, skipped ones included. */
  step: number;
  /** Sums of the losses in this epoch so far, and over how many steps. */
  sums: Record<string, number>;
  summed: number;
  /** Steps in a row that had NaN or infinity. */
  bad: number;
  /** Best mean held-out accuracy of the numbered widths so far. */
  best: number;
}

/** Sums and over how many steps they are. */
export type Sums = Pick<Progress, "sums" | "summed">;

export function startOf(stage: Stage, best = 0): Progress {
  return { stage, epoch: 0, step: 0, sums: {}, summed: 0, bad: 0, best };
}

export function addLosses(progress: Sums, losses: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(losses)) progress.sums[name] = (progress.sums[name] ?? 0) + value;
  progress.summed++;
}

/** Mean losses of the epoch so far. */
export function meanLosses({ sums, summed }: Sums): Record<string, number> {
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / Math.max(summed, 1)]));
}

/** Mean losses of the epoch; the next one begins at zero. */
export function takeMeans(progress: Progress): Record<string, number> {
  const means = meanLosses(progress);
  progress.sums = {};
  progress.summed = 0;
  return means;
}

export function toState(progress: Progress): TrainingState {
  return { ...progress };
}

export function fromState(state: TrainingState | undefined): Progress {
  const p = state as Partial<Progress> | undefined;
  const numbers = [p?.epoch, p?.step, p?.summed, p?.bad, p?.best];
  if (
    (p?.stage !== "supernet" && p?.stage !== "gate") ||
    !numbers.every(Number.isFinite) ||
    typeof p.sums !== "object"
  ) {
    throw new FormatError("the checkpoint does not say where its run stood; start a new run with another --output");
  }
  const { stage, epoch, step, sums, summed, bad, best } = p as Progress;
  return { stage, epoch, step, sums: { ...sums }, summed, bad, best };
}

/** The record with a prefix before every key: columns of results.csv. */
export function prefixed<T>(prefix: string, record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [prefix + key, value]));
}
