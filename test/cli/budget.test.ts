/** `dsnet calibrate`, `predict` with a budget, and `dsnet benchmark`, as processes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { openBackend } from "../../src/backend/open.js";
import { openData } from "../../src/data/index.js";
import type { Evaluation } from "../../src/evaluate/evaluate.js";
import { decodeModel, encodeModel } from "../../src/io/model-file.js";
import { modelSpec } from "../../src/models/registry.js";
import type { CalibrateResult } from "../../src/train/index.js";
import { idxImages, idxLabels, imageTree, png, temporaryFolder, writeTree } from "../data/support.js";
import { sampleModel } from "../support/model.js";
import { fileOf } from "../support/slices.js";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

const labels = (n: number) => idxLabels(Array.from({ length: n }, (_, i) => (i * 3) % 10));
const data = writeTree(at("data"), {
  "train-images-idx3-ubyte": idxImages(20, 28, 28, 100),
  "train-labels-idx1-ubyte": labels(20),
  "t10k-images-idx3-ubyte": idxImages(60, 28, 28),
  "t10k-labels-idx1-ubyte": labels(60),
});
const { calibration: _, ...uncalibrated } = await sampleModel();
const sample = { ...uncalibrated, classes: [...(await openData(data, { channels: 1 })).val.classNames] };
const image = at("image.png");
writeFileSync(image, png(1, 28, 28, 1));

function dsnet(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { ...process.env, DEBUG: "", NO_COLOR: "1", FORCE_COLOR: "", XDG_CACHE_HOME: at("cache") };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

describe("dsnet calibrate", () => {
  const model = at("model.safetensors");
  const one = ["--threads", "1"];

  it("stores what val finds: at λ = 0, and where one width takes all", async () => {
    writeFileSync(model, encodeModel(sample));
    const { status, stdout, stderr } = await dsnet("calibrate", model, "--data", data, "--json", ...one);
    assert.deepEqual([status, stderr], [0, ""]);
    const result: CalibrateResult = JSON.parse(stdout);
    const { calibration: table, cascades, ...rest } = decodeModel(new Uint8Array(readFileSync(model)));
    assert.deepEqual(rest, decodeModel(encodeModel(sample)), "nothing else has changed");
    assert.deepEqual(table, result.table);
    assert.ok(cascades!.length > 0);
    assert.deepEqual([result.model, result.images], [model, 60]);
    assert.ok(table!.length > 5);
    table!.slice(1).forEach((point, i) => {
      assert.ok(point.lambda > table![i]!.lambda && point.madds < table![i]!.madds);
    });
    for (const { madds, shares } of table!) {
      const mean = shares!.reduce((sum, share, k) => sum + share * result.candidates[k]!.madds, 0);
      assert.ok(Math.abs(mean - madds) < 1e-6 * madds);
    }
    const found: Evaluation = JSON.parse((await dsnet("val", model, "--data", data, "--json", ...one)).stdout);
    const row = (kind: string, width?: number) => found.rows.find((r) => r.kind === kind && r.width === width)!;
    const dynamic = table!.findLast(({ lambda }) => lambda <= 0)!;
    const close = (a: number, b: number) => assert.ok(Math.abs(a - b) <= 1e-9 * Math.abs(b), `${a} is not ${b}`);
    close(dynamic.madds, row("dynamic").madds!);
    close(dynamic.accuracy, row("dynamic").accuracy!);
    close(table![0]!.accuracy, row("width", 5).accuracy!);
    close(table!.at(-1)!.accuracy, row("width", 0).accuracy!);
    found.dynamic!.routes.overall.forEach((count, k) => {
      close(dynamic.shares![k]!, count / 60);
    });
  });

  it("turns a model into one that chooses by a cascade at the gate's cost, and back", async () => {
    const output = at("cascade.safetensors");
    const args = ["calibrate", model, "--data", data, ...one];
    const { status, stdout } = await dsnet(...args, "--routing", "cascade", "-o", output);
    assert.equal(status, 0);
    assert.match(stdout, /^ *MAdds +ms +top-1 % +then width +below\n/);
    const { routing, cascades, calibration } = decodeModel(new Uint8Array(readFileSync(output)));
    const gate = calibration!.findLast(({ lambda }) => lambda <= 0)!;
    const point = cascades!.find(({ madds }) => madds <= gate.madds)!;
    assert.deepEqual(routing, { by: "cascade", wider: point.wider, threshold: point.threshold });
    const found: Evaluation = JSON.parse((await dsnet("val", output, "--data", data, "--json", ...one)).stdout);
    const row = (kind: string) => found.rows.find((each) => each.kind === kind)!;
    assert.ok(Math.abs(row("dynamic").madds! - point.madds) < 1e-9 * point.madds);
    assert.ok(Math.abs(row("dynamic").accuracy! - point.accuracy) < 1e-9);
    assert.ok(row("gate").madds! <= point.madds, "the rival spends no more");
    assert.match(
      (await dsnet("inspect", output)).stdout,
      /Width by a cascade: the slimmest answers; below confidence 0\.\d+/,
    );
    assert.match((await dsnet("inspect", model)).stdout, /Width by the gate: the best score less 0 × MAdds/);
    const back = await dsnet("calibrate", output, "--data", data, "--routing", "gate", "--json", ...one);
    assert.equal(JSON.parse(back.stdout).routing.by, "gate");
  });

  it("makes budgets in ms known here, which predict keeps to", async () => {
    const known = readdirSync(at("cache/dsnet")).length;
    const asked = (ms: string) => dsnet("predict", image, "--model", model, "--budget-ms", ms, "--json", ...one);
    const { status, stdout } = await asked("1e6");
    assert.equal(status, 0);
    assert.equal(JSON.parse(stdout).route.length, 1);
    const refused = await asked("1e-6");
    assert.equal(refused.status, 2);
    assert.match(
      refused.stderr,
      /^error\[ERR_USAGE\]: budget: 0\.000001 ms cannot be reached; .* takes [\d.]+ to [\d.]+/,
    );
    assert.equal(readdirSync(at("cache/dsnet")).length, known, "it was measured again");
    const both = await dsnet("predict", image, "--model", model, "--budget-ms", "1", "--budget-madds", "1e6");
    assert.deepEqual([both.status, both.stdout], [2, ""]);
    assert.match(both.stderr, /cannot be used with/);
  });

  it("writes to another file if asked, and shows a table", async () => {
    const before = readFileSync(model);
    const output = at("other.safetensors");
    const { status, stdout } = await dsnet("calibrate", model, "--data", data, "-o", output);
    assert.equal(status, 0);
    assert.match(stdout, /^ +MAdds +ms +top-1 % +λ\n/);
    assert.match(stdout, /\nwidth +MAdds +ms\n +0 +918 k +\d/);
    assert.match(stdout, /60 images; .*\nwrote .*other\.safetensors\n$/);
    assert.deepEqual(readFileSync(model), before);
    assert.ok(decodeModel(new Uint8Array(readFileSync(output))).calibration);
  });

  it("takes several gates: MAdds and accuracy, no times", async () => {
    const backend = await openBackend({ device: "wasm", threads: 1 });
    const several = { ...modelSpec("ds_resnet"), input: { height: 16, width: 16, channels: 1 as const } };
    const routed = at("routed.safetensors");
    writeFileSync(routed, encodeModel({ ...fileOf(backend, several), classes: sample.classes }));
    backend.dispose();
    const { status, stdout, stderr } = await dsnet("calibrate", routed, "--data", data, ...one);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^ *MAdds +top-1 % +λ$/m);
    assert.match(stdout, /^60 images; MAdds are the mean of one image/m);
    const { calibration } = decodeModel(new Uint8Array(readFileSync(routed)));
    assert.ok(calibration!.length > 1 && calibration!.every(({ shares }) => shares === undefined));
  });

  it("takes images whose classes are numbered for a model that names as many", async () => {
    const named = at("named.safetensors");
    const output = at("calibrated.safetensors");
    writeFileSync(named, encodeModel({ ...sample, classes: sample.classes.map((name) => `class ${name}`) }));
    const { status, stderr } = await dsnet("calibrate", named, "--data", data, "-o", output, ...one);
    assert.deepEqual([status, stderr], [0, ""]);
    const { classes, calibration } = decodeModel(new Uint8Array(readFileSync(output)));
    assert.equal(classes[3], "class 3");
    assert.deepEqual(calibration, decodeModel(new Uint8Array(readFileSync(model))).calibration);
  });

  it("refuses a model without a gate and other classes, and leaves the file alone", async () => {
    const gateless = at("gateless.safetensors");
    writeFileSync(gateless, encodeModel({ ...sample, candidates: [] }));
    const fewer = writeTree(at("fewer"), {
      "train-images-idx3-ubyte": idxImages(9, 28, 28),
      "train-labels-idx1-ubyte": idxLabels([0, 1, 2, 3, 4, 5, 6, 7, 8]),
      "t10k-images-idx3-ubyte": idxImages(1, 28, 28),
      "t10k-labels-idx1-ubyte": idxLabels([0]),
    });
    const names = sample.classes.map((name) => `class ${name}`);
    for (const [file, images, reason] of [
      [gateless, data, /expected a model with a trained gate/],
      [model, fewer, /expected the model's classes \(10: .*got 9: /],
      [model, writeTree(at("photos"), imageTree(names)), /expected the model's classes \(10: .*got 10: class 0/],
    ] as const) {
      const before = readFileSync(file);
      const { status, stdout, stderr } = await dsnet("calibrate", file, "--data", images);
      assert.notEqual(status, 0);
      assert.equal(stdout, "");
      assert.match(stderr, reason);
      assert.deepEqual(readFileSync(file), before);
    }
  });
});

describe("dsnet benchmark", { concurrency: 3 }, () => {
  it("takes a name, prints tables, and draws a page", async () => {
    const page = at("time.html");
    const { status, stdout, stderr } = await dsnet("benchmark", "ds_mbnet_28", "--rounds", "2", "--layers", "-o", page);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^what +MAdds \(M\) +median ms +p90 ms +GMAC\/s +% of peak +faster +by MAdds +delivered\n/);
    assert.match(stdout, /\ndynamic +[\d.]+/);
    assert.match(stdout, /\nlayer at 5 +calls +MAdds +µs/);
    assert.match(stdout, /\nclassifier +1 +2,720/);
    assert.match(stdout, /1 thread, batch 1; 2 rounds/);
    assert.match(readFileSync(page, "utf8"), /<h3>Time against MAdds<\/h3>/);
  });

  it("takes a file, and with --json says all in JSON", async () => {
    const model = at("timed.safetensors");
    writeFileSync(model, encodeModel({ ...sample, candidates: [] }));
    const flags = ["--rounds", "2", "--batch", "3", "--layers", "0", "--device", "wasm", "--threads", "2", "--json"];
    const { status, stdout } = await dsnet("benchmark", model, ...flags);
    assert.equal(status, 0);
    const found = JSON.parse(stdout);
    assert.deepEqual([found.model, found.kernels, found.threads, found.batch], [model, "wasm-simd128", 2, 3]);
    assert.deepEqual([found.rows.length, found.gate, found.layers.route], [6, null, 0]); // its gate is not trained
  });

  it("refuses what is no model, no width and no number", async () => {
    for (const [args, reason] of [
      [["nope"], /expected a model file or one of .*ds_mbnet.*; there is no file nope/],
      [["ds_mbnet_28", "--layers", "6"], /expected widths from 0 to 5 or largest, got 6/],
      [["ds_mbnet_28", "--rounds", "0"], /Expected a whole number ≥ 1/],
    ] as const) {
      const { status, stdout, stderr } = await dsnet("benchmark", ...args);
      assert.deepEqual([status, stdout], [2, ""]);
      assert.match(stderr, reason);
    }
  });
});
