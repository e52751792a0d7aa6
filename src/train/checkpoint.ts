/** Learner ⇄ model file: the trained model alone, or everything that an exact resume needs. */
import type { ModelFile, TrainingState } from "../io/model-file.js";
import { selectTensors } from "../io/model-file.js";
import { readState, writeState } from "../models/state.js";
import type { Learner } from "./learner.js";

/** What a model file says besides its weights. */
export type Description = Pick<ModelFile, "model" | "classes" | "preprocessing">;

/** The model alone, of the weights in `span`: what `load` reads. */
export function modelFile(
  { backend, net, student }: Learner,
  about: Description,
  extra: Partial<ModelFile>,
  span = student,
): ModelFile {
  return {
    ...about,
    candidates: [], // until there is a trained gate
    kernelBuild: backend.build,
    tensors: writeState(backend, net, span),
    ...extra,
  };
}

/** With teacher, momentum and, where one is kept, the average. */
export function checkpoint(learner: Learner, about: Description, training: TrainingState): ModelFile {
  const { backend, net, teacher, momentum, average } = learner;
  const file = modelFile(learner, about, { training });
  const parts = [
    writeState(backend, net, teacher, { prefix: "ema." }),
    writeState(backend, net, momentum, { prefix: "optimizer.", statistics: false }),
    ...(average === null ? [] : [writeState(backend, net, average, { prefix: "swa." })]),
  ];
  for (const part of parts) for (const [name, tensor] of part) file.tensors.set(name, tensor);
  return file;
}

export function restore(learner: Learner, file: ModelFile): void {
  const { backend, net, student, teacher, momentum, average } = learner;
  readState(backend, net, student, selectTensors(file.tensors, "parameters"));
  readState(backend, net, teacher, selectTensors(file.tensors, "ema"));
  readState(backend, net, momentum, selectTensors(file.tensors, "optimizer"), { statistics: false });
  if (average !== null) readState(backend, net, average, selectTensors(file.tensors, "swa"));
  learner.refresh();
}
