/** The public surface: load a trained network and classify; model files in, cut and out; what models there are; what runs here. */
import { describeSpec, type ModelDescription } from "./cost/describe.js";
import { readModel } from "./engine/load.js";
import { routingOf } from "./io/model-file.js";
import { networkOf } from "./models/file.js";
import { modelSpec, listModels as names } from "./models/registry.js";

export { type Checks, checks } from "./backend/checks.js";
export { type ModelDescription, type ModelSummary, registrySummaries as listModels } from "./cost/describe.js";
export type { Budget } from "./engine/budget.js";
export { type LoadOptions, load } from "./engine/load.js";
export type { Classification, ClassifyOptions, Network, RunOptions, Width } from "./engine/network.js";
export * from "./errors.js";
export type { ImageInput } from "./image/input.js";
export type { RawImage } from "./image/raw.js";
export { decodeModel, encodeModel, type ModelFile, type Routing } from "./io/model-file.js";
export { type ImportOptions, importCheckpoint } from "./models/import.js";
export { sliceModel } from "./models/slice.js";
export type { ModelSpec, StageSpec, StemSpec } from "./models/spec.js";

/** Stages, widths and costs of a registry name or a model file. `layersAt`: also every layer at that width. */
export async function describeModel(
  model: string,
  options: { layersAt?: number | "largest" } = {},
): Promise<ModelDescription> {
  if (names().includes(model)) return describeSpec(model, modelSpec(model), options.layersAt);
  const file = await readModel(model);
  return {
    ...describeSpec(file.model.name, networkOf(file).spec, options.layersAt),
    ...(file.candidates.length > 0 && { routing: routingOf(file) }),
  };
}
