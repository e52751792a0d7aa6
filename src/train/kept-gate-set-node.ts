/** The gate set of a run, kept beside its checkpoints: one that goes on, and others on the same supernet, need not compute it again. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FormatError } from "../errors.js";
import { readBytes, writeFileAtomic } from "../io/files-node.js";
import { asFloat32, float32Tensor } from "../io/float32.js";
import { readSafetensors, type StoredTensor, writeSafetensors } from "../io/safetensors.js";
import { writeState } from "../models/state.js";
import { gateLayers } from "../nn/gate.js";
import type { GateSet } from "./gate-set.js";
import type { Session } from "./session-node.js";

export const GATE_SET = "gate-set.safetensors";

/** The set in the run's folder where it is of this network and these images, else what `compute` gives, which is then kept. */
export async function keptGateSet(session: Session, compute: () => Promise<GateSet>): Promise<GateSet> {
  const file = join(session.folder.path, GATE_SET);
  const of = keyOf(session);
  const kept = existsSync(file) ? decode(await readBytes(file), of) : null;
  if (kept !== null) return kept;
  const set = await compute();
  await writeFileAtomic(file, encode(set, of));
  return set;
}

/** Changes with whatever a set depends on: the network and its frozen weights, the kernels, the images and how they are augmented. */
function keyOf({ config, backend, data: { heldOut }, net, learner, about }: Session): string {
  const [gate] = net.gates;
  const { data, subset, seed, augment, epochs } = config;
  const { holdout, images, views } = config.gate;
  const { preprocessing, model } = about;
  const made = { data, subset, seed, augment, epochs, holdout, images, views, preprocessing, kernels: backend.build };
  const hash = createHash("sha256");
  hash.update(JSON.stringify({ ...made, table: model.spec, candidates: gate!.candidates }));
  hash.update(heldOut.dataset.labels.join());
  const head = gateLayers(gate!).flatMap(({ weight, bias }) => [weight.name, bias?.name]);
  for (const [name, { data }] of writeState(backend, net, learner.student)) {
    if (!head.includes(name)) hash.update(name).update(data);
  }
  return hash.digest("hex");
}

function encode({ features, width, images, clean, losses, correct }: GateSet, of: string): Uint8Array {
  const candidates = losses.length / images;
  const tensors: [string, StoredTensor][] = [
    ["features", float32Tensor([images, width], features)],
    ["losses", float32Tensor([images, candidates], losses)],
    ["correct", { dtype: "U8", shape: [images, candidates], data: correct }],
  ];
  return writeSafetensors(
    new Map(tensors),
    new Map([
      ["of", of],
      ["clean", String(clean)],
    ]),
  );
}

/** Null where the file is another set's, or none. */
function decode(bytes: Uint8Array, of: string): GateSet | null {
  try {
    const { metadata, tensors } = readSafetensors(bytes);
    if (metadata.get("of") !== of) return null;
    const tensor = (name: string) => tensors.get(name)!;
    const [images, width] = tensor("features").shape as [number, number];
    return {
      features: asFloat32(tensor("features")),
      width,
      images,
      clean: Number(metadata.get("clean")),
      losses: asFloat32(tensor("losses")),
      correct: tensor("correct").data.slice(),
    };
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
