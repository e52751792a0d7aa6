/** What a training run tells while it goes on, and what it ends with. */
import type { Evaluation } from "../evaluate/evaluate.js";
import type { ProfileReport } from "./profile.js";

export type Stage = "supernet" | "gate";

export type TrainEvent =
  | { type: "start"; facts: Record<string, unknown> }
  | {
      type: "step";
      stage: Stage;
      /** Epochs and steps count from 1. */
      epoch: number;
      step: number;
      /** In the epoch. */
      steps: number;
      /** In the epoch so far. */
      images: number;
      loss: Record<string, number>;
      lr: number;
    }
  | {
      type: "epoch";
      stage: Stage;
      epoch: number;
      epochs: number;
      seconds: number;
      imagesPerSecond: number;
      /** Means over the epoch. */
      loss: Record<string, number>;
      /** Fractions, by width number or `dynamic`. */
      accuracy?: Record<string, number>;
    }
  /** Longer work between epochs, in images. */
  | { type: "phase"; name: string; done: number; total: number }
  | { type: "warning"; message: string }
  | { type: "saved"; path: string }
  /** Once, at the end, where it was asked for. */
  | ({ type: "profile" } & ProfileReport);

export interface TrainResult {
  /** On the validation images; undefined where the run was interrupted. */
  evaluation: Evaluation | undefined;
  /** Path of report.html. */
  report: string;
  /** Path of the trained model. */
  model: string;
  interrupted: boolean;
}
