/** Learner ⇄ model file: the trained model alone, or everything that an exact resume needs. */
import type { ModelFile, TrainingState } from "../io/model-file.js";
import { selectTensors } from "../io/model-file.js";
import { readState, writeState } from "../models/state.js";
import type { Learner } from "./learner.js";

/** What a model file says besides its weights. */
export type Description = Pick<ModelFile, "model" | "classes" | "preprocessing">;

/** The model alone: what `load` reads. */
export function modelFile(learner: Learner, about: Description, extra: Partial<ModelFile>): ModelFile {
  const { backend, net, student } = learner;
  return {
    ...about,
    candidates: [], // until there is a trained gate
    kernelBuild: backend.build,
    tensors: writeState(backend, net, student),
    ...extra,
  };
}

/** With teacher and momentum. */
export function checkpoint(learner: Learner, about: Description, training: TrainingState): ModelFile {
  const { backend, net, teacher, momentum } = learner;
  const file = modelFile(learner, about, { training });
  for (const [name, tensor] of writeState(backend, net, teacher, { prefix: "ema." })) file.tensors.set(name, tensor);
  const buffers = writeState(backend, net, momentum, { prefix: "optimizer.", statistics: false });
  for (const [name, tensor] of buffers) file.tensors.set(name, tensor);
  return file;
}

export function restore(learner: Learner, file: ModelFile): void {
  const { backend, net, student, teacher, momentum } = learner;
  readState(backend, net, student, selectTensors(file.tensors, "parameters"));
  readState(backend, net, teacher, selectTensors(file.tensors, "ema"));
  readState(backend, net, momentum, selectTensors(file.tensors, "optimizer"), { statistics: false });
  learner.refresh();
}
