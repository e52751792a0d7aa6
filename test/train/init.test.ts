/** `init`: runs that start from the weights of a file, whole. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { encode as encodePng } from "fast-png";
import { openBackend } from "../../src/backend/open.js";
import { load } from "../../src/index.js";
import { asFloat32 } from "../../src/io/float32.js";
import { decodeModel, encodeModel, type ModelFile, selectTensors } from "../../src/io/model-file.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import { writeSafetensors } from "../../src/io/safetensors.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import { sliceModel } from "../../src/models/slice.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { writeState } from "../../src/models/state.js";
import { Philox } from "../../src/random/philox.js";
import type { TrainConfig } from "../../src/train/config.js";
import type { TrainEvent } from "../../src/train/events.js";
import { train } from "../../src/train/train-node.js";
import { type Tree, temporaryFolder, writeTree } from "../data/support.js";
import { stateDict } from "../io/torch/support/network.js";
import { saveZip } from "../io/torch/support/torch.js";
import { sampleModel } from "../support/model.js";
import { randomSpan } from "../support/networks.js";
import { dsnet, remains, smallConfig } from "./small-run.js";

const folder = temporaryFolder();

/** An image folder of noisy gratings of 28×28, grey: a class's name says its angle in degrees. */
function gratings(name: string, angles: readonly number[], perClass = 24): string {
  const tree: Tree = {};
  const image = (angle: number, k: number) => {
    const random = new Philox(angle, k, name);
    const [phase, period] = [random.float() * 7, 5 + 3 * random.float()];
    const radians = (angle * Math.PI) / 180;
    const data = Uint8Array.from({ length: 28 * 28 }, (_, at) => {
      const along = (at % 28) * Math.cos(radians) + Math.floor(at / 28) * Math.sin(radians);
      return Math.min(
        255,
        Math.max(0, 128 + 70 * Math.sin((2 * Math.PI * along) / period + phase) + 30 * random.normal()),
      );
    });
    return encodePng({ data, height: 28, width: 28, channels: 1, depth: 8 });
  };
  for (const angle of angles) {
    for (let k = 0; k < perClass; k++) tree[`train/${angle} degrees/${k}.png`] = image(angle, k);
    for (let k = 0; k < 4; k++) tree[`val/${angle} degrees/${k}.png`] = image(angle, 1000 + k);
  }
  return writeTree(join(folder, name), tree);
}

let runs = 0;
function configOf(data: string, more: Partial<TrainConfig> = {}): TrainConfig {
  const config = smallConfig(data, join(folder, `run${runs++}`), "probability");
  return {
    ...config,
    device: "wasm",
    batch_size: 16,
    epochs: 1,
    recovery_interval: 0,
    recalibration_batches: 2,
    ...more,
    gate: { ...config.gate, holdout: 0.2, epochs: 0, ...more.gate },
  };
}

async function events(config: TrainConfig): Promise<TrainEvent[]> {
  const heard: TrainEvent[] = [];
  await train(config, { onEvent: (event) => heard.push(event) });
  return heard;
}

const initFacts = (heard: readonly TrainEvent[]) =>
  heard.flatMap((event) => (event.type === "start" ? [event.facts.init] : []))[0];

/** The model sample with the labels of the other gratings. */
function fittingModel(): ModelFile {
  const spec = { ...(sample.model.spec as ModelSpec), classes: classes.length };
  const tensors = new Map(sample.tensors);
  for (const name of ["classifier.weight", "classifier.bias"]) {
    const { shape, data } = sample.tensors.get(name)!;
    const bytes = (data.length / shape[0]!) * classes.length;
    tensors.set(name, { dtype: "F32", shape: [classes.length, ...shape.slice(1)], data: data.slice(0, bytes) });
  }
  return { ...sample, model: { ...sample.model, spec }, classes, tensors };
}

/** What a run leaves that takes no step. */
async function untrained(data: string, more: Partial<TrainConfig>): Promise<ModelFile & { facts: unknown }> {
  const config = configOf(data, { epochs: 0, ...more });
  const facts = initFacts(await events({ ...config, gate: { ...config.gate, epochs: 0 } }));
  return { ...(await readModelFile(join(config.output, "best.safetensors"))), facts };
}

/** The checkpoint that is there when training begins; the run goes no further than its first step. */
async function checkpointAtStart(config: TrainConfig): Promise<{ file: ModelFile; facts: unknown }> {
  const abort = new AbortController();
  const start: { file?: ModelFile; facts?: unknown } = {};
  await train(config, {
    signal: abort.signal,
    onEvent: (event) => {
      if (event.type !== "start") return;
      start.file = decodeModel(readFileSync(join(config.output, "last.safetensors")));
      start.facts = event.facts.init;
      abort.abort();
    },
  });
  return { file: start.file!, facts: start.facts };
}

async function logits(file: ModelFile, width: number, images: Float32Array): Promise<number[]> {
  const tensors = selectTensors(file.tensors, "parameters");
  const network = await load(encodeModel({ ...file, tensors }), { device: "wasm", threads: 1 });
  try {
    return [...network.run(images, { width })];
  } finally {
    network.dispose();
  }
}

function written(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** `ds_mbnet_32`'s widest, with random weights and without its attention. */
async function bareColour(): Promise<Uint8Array> {
  const backend = await openBackend({ device: "wasm", threads: 1 });
  try {
    const spec = { ...modelSpec("ds_mbnet_32"), attention: 0 };
    const net = build(spec);
    const whole = {
      ...sample,
      model: { name: "bare", spec },
      tensors: writeState(backend, net, randomSpan(backend, net, 1)),
    };
    const preprocessing = {
      ...sample.preprocessing,
      height: 32,
      width: 32,
      channels: 3,
      mean: [0, 0, 0],
      std: [1, 1, 1],
    };
    return encodeModel(sliceModel({ ...whole, preprocessing } as ModelFile, 5));
  } finally {
    backend.dispose();
  }
}

const halves = gratings("halves", [0, 30, 60, 90, 120, 150]);
const others = gratings("others", [15, 45, 105, 135]);
/** A model that tells the first gratings apart. */
const source = configOf(halves, { epochs: 6, lr: 0.1 });
const { model } = await train(source);
const sample = await sampleModel();
const classes = ["105 degrees", "135 degrees", "15 degrees", "45 degrees"];
/** Its classifier fits the other gratings. */
const fits = fittingModel();

describe("fine-tuning a model of ours on other classes", () => {
  it("learns faster than from a random start, with a new classifier and the folders' labels", async () => {
    const losses: number[] = [];
    for (const init of [null, model]) {
      const config = configOf(others, { init, lr: 0.05 });
      const heard = await events(config);
      const [epoch] = heard.filter((event) => event.type === "epoch");
      losses.push(epoch!.loss.largest!);
      const facts =
        init === null ? undefined : [`all weights of ${model}`, "a new gate", "a new classifier for 4 classes"];
      assert.deepEqual(initFacts(heard), facts);
      assert.deepEqual((await readModelFile(join(config.output, "best.safetensors"))).classes, classes);
    }
    // 1.46 and 1.17 when this was written; knowing nothing is 1.39.
    assert.ok(losses[1]! < losses[0]! - 0.15, String(losses));
  });

  it("starts with every weight of the source but the gate's and the classifier's, which are zero, and sees what the source saw", async () => {
    const { tensors, preprocessing, classes: labels } = await untrained(others, { init: model });
    const before = await readModelFile(model);
    assert.deepEqual(preprocessing, before.preprocessing);
    assert.deepEqual([labels.length, before.classes.length], [4, 6]);
    for (const { name, role } of build(modelSpec("ds_mbnet_28")).layout.params) {
      if (role === "statistic") continue; // they are measured anew
      if (role.startsWith("gate")) continue;
      if (!name.startsWith("classifier")) assert.deepEqual(tensors.get(name), before.tensors.get(name), name);
      else assert.ok(asFloat32(tensors.get(name)!).every((x) => x === 0));
    }
  });

  it("keeps the classifier where the labels are the source's, and the gate where stage II goes on with it and its candidates are", async () => {
    // As the Gumbel method makes them: scores that are no probabilities.
    const { act: _, ...gate } = (fits.model.spec as ModelSpec).gate!;
    const spec = { ...(fits.model.spec as ModelSpec), gate };
    const init = written("scores.safetensors", encodeModel({ ...fits, model: { ...fits.model, spec } }));
    const config = (gate: Partial<TrainConfig["gate"]>) => ({
      init,
      gate: { ...source.gate, method: "gumbel" as const, ...gate },
    });
    const gateNames = (file: ModelFile) => [...file.tensors.keys()].filter((name) => /\.gate\.gate\./.test(name));
    const kept = await untrained(others, config({ candidates: null }));
    assert.deepEqual(kept.facts, [`all weights of ${init}`]);
    for (const name of [...gateNames(kept), "classifier.weight", "classifier.bias"]) {
      assert.deepEqual(kept.tensors.get(name), fits.tensors.get(name), name);
    }
    const fewer = await untrained(others, config({ candidates: [0, 2] }));
    const cached = await untrained(others, config({ candidates: null, method: "probability" }));
    for (const other of [fewer, cached]) {
      assert.deepEqual(other.facts, [`all weights of ${init}`, "a new gate"]);
      assert.equal(gateNames(other).length, 4);
      for (const name of gateNames(other).filter((n) => n.endsWith("weight"))) {
        assert.notDeepEqual(other.tensors.get(name), fits.tensors.get(name), name);
      }
    }
  });
});

describe("a run that starts from one width", () => {
  const widest = sliceModel(sample, 5);

  it("has its logits at that width before training, from a model file and from plain tensors", async () => {
    const slice = sliceModel(fits, 3);
    const plain = new Map([...slice.tensors].map(([name, tensor]) => [name.replace(".aux_bn.0", ""), tensor]));
    const assumed = ["its classifier: 4 logits, taken for the classes in their order"];
    for (const [name, bytes, more] of [
      ["slice.safetensors", encodeModel(slice), []],
      ["plain.safetensors", writeSafetensors(plain, new Map([["format", "pt"]])), assumed],
      ["plain.pth", saveZip(stateDict(plain)), assumed],
    ] as const) {
      const init = written(name, bytes);
      const start = await checkpointAtStart(configOf(others, { init }));
      assert.deepEqual(start.facts, [`${init} as width 3, its best channels first`, ...more]);
      const images = Float32Array.from({ length: 8 * 28 * 28 }, (_, i) => Math.sin(i * 0.37) + Math.cos(i * 0.011));
      const [got, want] = [await logits({ ...start.file, calibrated: [3] }, 3, images), await logits(slice, 0, images)];
      const largest = Math.max(...want.map(Math.abs));
      const off = Math.max(...want.map((x, i) => Math.abs(x - got[i]!))) / largest;
      assert.ok(off < 1e-5, `${name}: ${off}`);
    }
  });

  it("makes a new classifier for other classes, and attention where the source has none", async () => {
    const init = written("bare.safetensors", await bareColour());
    const { file, facts } = await checkpointAtStart(configOf(others, { init, model: "ds_mbnet_32" }));
    assert.deepEqual(facts, [
      `${init} as width 5, its best channels first`,
      "attention that starts as the identity",
      "a new classifier for 4 classes",
    ]);
    assert.ok(asFloat32(file.tensors.get("classifier.weight")!).every((x) => x === 0));
  });

  it("goes on without the file when it was interrupted, to the same bits", async () => {
    const init = written("gone.safetensors", encodeModel(widest));
    const whole = configOf(others, { init });
    await train(whole);
    const config = { ...whole, output: join(folder, "interrupted") };
    await checkpointAtStart(config);
    rmSync(init);
    const heard: TrainEvent[] = [];
    await train(config, { resume: true, onEvent: (event) => heard.push(event) });
    assert.deepEqual(remains(config.output), remains(whole.output));
    assert.equal(initFacts(heard), undefined);
  });
});

describe("init refuses", () => {
  const refused = async (init: string, message: RegExp, more: Partial<TrainConfig> = {}) => {
    const config = configOf(others, { init, ...more });
    await assert.rejects(train(config), message);
    assert.ok(!existsSync(join(config.output, "args.yaml")), "the folder is free for another try");
  };

  it("what is no file, no model, and no checkpoint", async () => {
    await refused(join(folder, "nowhere"), /^UsageError: There is no file .*nowhere/);
    await refused(
      written("text", new TextEncoder().encode("# a text\n")),
      /text: neither a model of dsnet nor a check/,
    );
    const half = written("half", encodeModel(sample).subarray(0, 5000));
    await refused(half, /^FormatError: .*half: /);
  });

  it("a model of another table, and says what is other", async () => {
    const other = /expected a ds_mbnet_28 or one width of it, .* is a ds_mbnet_28: other norm \(bn, not gn\)\. Use/;
    await refused(model, other, { norm: "gn" });
    const spec = { ...(sample.model.spec as ModelSpec), act: "relu" as const };
    const relu = written("relu", encodeModel({ ...sample, model: { name: "relu", spec } }));
    await refused(relu, /relu is a relu: other act \(relu, not swish\)/);
    const slice = written("relu slice", encodeModel(sliceModel({ ...sample, model: { name: "relu", spec } }, 2)));
    await refused(slice, /slice is a relu_width_2: other act \(relu, not swish\)\./);
  });

  it("tensors that are of no width, by their names; a supernet's tell to import it", async () => {
    const tensors = new Map(sliceModel(sample, 1).tensors).set("fc.bias", sample.tensors.get("classifier.bias")!);
    const plain = written("plain", writeSafetensors(tensors, new Map()));
    await refused(plain, /plain: As width 1, the nearest: .*\n {2}1 not part of the model: fc\.bias$/);
    const supernet = written("supernet", writeSafetensors(sample.tensors, new Map()));
    await refused(supernet, /supernet: Norms of several widths.*"dsnet import"/);
  });

  it("a resumed run", async () => {
    const { code, stderr } = await dsnet(["train", "--resume", "--output", source.output, "--init", model]);
    assert.equal(code, 2);
    assert.match(stderr, /--init: a resumed run goes on with its own weights; leave out --init or --resume/);
  });
});
