/** `dsnet export` as a process. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { withHalfWeights } from "../../src/io/compact.js";
import { decodeModel, encodeModel } from "../../src/io/model-file.js";
import { sliceModel } from "../../src/models/slice.js";
import { encodeOnnx } from "../../src/onnx/encode-node.js";
import { onnxModel } from "../../src/onnx/export.js";
import { temporaryFolder } from "../data/support.js";
import { sampleModel } from "../support/model.js";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

const sample = await sampleModel();
const model = at("model.safetensors");
const partly = at("partly.safetensors");
const ungated = at("ungated.safetensors");
writeFileSync(model, encodeModel(sample));
writeFileSync(partly, encodeModel({ ...sample, calibrated: [0, 5] }));
const { calibration: _, ...withoutTables } = sample;
writeFileSync(ungated, encodeModel({ ...withoutTables, candidates: [] }));

function dsnet(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { ...process.env, DEBUG: "", NO_COLOR: "1", FORCE_COLOR: "" };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, "export", ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

describe("dsnet export", { concurrency: 4 }, () => {
  it("writes the slice and says what it is", async () => {
    const output = at("out.safetensors");
    writeFileSync(output, "older"); // is replaced
    const { status, stdout, stderr } = await dsnet(model, "--width", "2", "-o", output);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(
      stdout,
      /^model {7}ds_mbnet_28_width_2\nparameters {2}[\d,]+\nMAdds {7}2\.89 M\nwrote .*out\.safetensors, /,
    );
    assert.deepEqual(new Uint8Array(readFileSync(output)), encodeModel(sliceModel(sample, 2)));
    assert.ok(!readdirSync(folder).some((name) => name.startsWith(".out.")));
  });

  it("takes smallest and largest, and with --json says it in JSON", async () => {
    const sizes: number[] = [];
    for (const [width, number] of Object.entries({ smallest: 0, largest: 5 })) {
      const output = at(`${width}.safetensors`);
      const { stdout } = await dsnet(model, "--width", width, "-o", output, "--json");
      const { bytes, ...said } = JSON.parse(stdout);
      const written = readFileSync(output);
      const name = `ds_mbnet_28_width_${number}`;
      assert.deepEqual([said.file, said.model, said.output, bytes], [model, name, output, written.length]);
      assert.equal(decodeModel(written).model.name, name);
      sizes.push(bytes);
    }
    assert.ok(sizes[0]! < sizes[1]! / 2, String(sizes));
  });

  it("writes the whole model, without what only training needs", async () => {
    const checkpoint = at("checkpoint.safetensors");
    const tensors = new Map(sample.tensors);
    for (const [name, tensor] of sample.tensors) tensors.set(`ema.${name}`, tensor);
    writeFileSync(checkpoint, encodeModel({ ...sample, tensors, training: { stage: "gate", epoch: 1, step: 2 } }));
    const output = at("whole.safetensors");
    const { status, stdout, stderr } = await dsnet(checkpoint, "-o", output);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^model {7}ds_mbnet_28\nparameters {2}[\d,]+ to [\d,]+\nMAdds {7}914 k to 9\.23 M\n/);
    assert.deepEqual(readFileSync(output), readFileSync(model));
  });

  it("stores weights in fp16, of the whole model or of a width", async () => {
    const output = at("half.safetensors");
    for (const [file, args] of [
      [sample, []],
      [sliceModel(sample, 2), ["--width", "2"]],
    ] as const) {
      const { status, stderr } = await dsnet(model, "--fp16", ...args, "-o", output);
      assert.deepEqual([status, stderr], [0, ""]);
      assert.deepEqual(new Uint8Array(readFileSync(output)), encodeModel(withHalfWeights(file)));
    }
  });

  it("writes ONNX: one width, or all with the gate, and says what it is", async () => {
    const narrow = at("narrow.onnx");
    const one = await dsnet(model, "--onnx", "--width", "2", "-o", narrow);
    assert.deepEqual([one.status, one.stderr], [0, ""]);
    assert.match(
      one.stdout,
      /^model {7}ds_mbnet_28_width_2\nparameters {2}[\d,]+\nMAdds {7}2\.89 M\nwrote .*narrow\.onnx, /,
    );
    assert.deepEqual(readFileSync(narrow), Buffer.concat(encodeOnnx(onnxModel(sliceModel(sample, 2)))));
    const dynamic = at("dynamic.onnx");
    const all = JSON.parse((await dsnet(model, "--onnx", "-o", dynamic, "--json")).stdout);
    assert.deepEqual(readFileSync(dynamic), Buffer.concat(encodeOnnx(onnxModel(sample))));
    assert.deepEqual([all.widths.length, all.bytes], [6, readFileSync(dynamic).length]);
  });

  const cases: [what: string, args: string[], status: number, reason: RegExp][] = [
    ["a width that is not there", [model, "--width", "6"], 2, /ERR_USAGE\]: width: expected 0 to 5 or largest, got 6/],
    ["a width of another name", [model, "--width", "huge"], 2, /Expected a width.s number, largest or smallest/],
    [
      "a route that does not fit",
      [model, "--width", "1,2"],
      2,
      /ERR_USAGE\]: route: expected a width for each of the 1 gates, got 2/,
    ],
    [
      "ONNX in fp16",
      [model, "--onnx", "--fp16"],
      2,
      /ERR_USAGE\]: option '--onnx' cannot be used with option '--fp16'/,
    ],
    ["ONNX with a gate that may choose a width not measured", [partly, "--onnx"], 1, /ERR_UNCALIBRATED\]: width 1 has/],
    [
      "ONNX of many widths without a gate",
      [ungated, "--onnx"],
      2,
      /6 widths and no trained gate .*: give one with --width/,
    ],
    ["a width that was not measured", [partly, "--width", "1"], 1, /ERR_UNCALIBRATED\]: width 1 has no measured/],
    ["a model that is not there", [at("absent"), "--width", "0"], 2, /no file .*absent/],
    ["what is no model", [main, "--width", "0"], 1, /main\.js: /],
  ];
  for (const [i, [what, args, status, reason]] of cases.entries()) {
    it(`refuses ${what}, and writes nothing`, async () => {
      const output = at(`refused-${i}.safetensors`);
      const got = await dsnet(...args, "-o", output);
      assert.match(got.stderr, reason);
      assert.deepEqual([got.status, got.stdout, existsSync(output)], [status, "", false]);
    });
  }

  it("refuses to write over the model, and a folder that is not there", async () => {
    assert.match((await dsnet(model, "--width", "0", "-o", model)).stderr, /expected another file than the model/);
    const { status, stderr } = await dsnet(model, "--width", "0", "-o", join(folder, "no", "such"));
    assert.equal(status, 1);
    assert.match(stderr, /ERR_STORAGE\]: Could not write .*The folder does not exist/);
    assert.deepEqual(new Uint8Array(readFileSync(model)), encodeModel(sample));
  });
});
