/** `dsnet import` as a process. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { decodeModel } from "../../../src/io/model-file.js";
import { checkpoint, namespace, SPEC, stateDict, weights } from "./support/network.js";
import { saveZip } from "./support/torch.js";

const main = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dsnet-import-"));
after(() => rmSync(folder, { recursive: true }));

function put(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const spec = put("small.json", JSON.stringify(SPEC));
const file = put("small.pth.tar", saveZip(checkpoint()));
const labels = put("labels.txt", "cat\r\ndog\n");

function dsnet(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { ...process.env, DEBUG: "", NO_COLOR: "1", FORCE_COLOR: "" };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, "import", ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

async function refused(status: number, reason: RegExp, ...args: string[]): Promise<void> {
  const output = join(folder, "refused.safetensors");
  const got = await dsnet(...args, "-o", output);
  assert.match(got.stderr, reason);
  assert.deepEqual([got.status, got.stdout], [status, ""]);
  assert.ok(!readdirSync(folder).some((name) => name.includes("refused")), "nothing is written");
}

describe("dsnet import", { concurrency: 4 }, () => {
  it("writes a model file and says what was read, ignored and left inert", async () => {
    const output = join(folder, "out.safetensors");
    const { status, stdout, stderr } = await dsnet(file, "-o", output, "--spec", spec, "--labels", labels);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.deepEqual(stdout.split("\n"), [
      `read          ${file} (torch, zip), epoch 7, arch small, version 2`,
      "weights       52 tensors of state_dict, 13 counters of batches left out",
      "model         small, 2 classes",
      "gate          chooses among widths 0 1",
      "measured      widths 0 1 2 largest",
      "ignored       optimizer, args",
      "not resolved  argparse.Namespace (nothing was run)",
      `wrote         ${output}`,
      "",
    ]);
    const { model, classes } = decodeModel(readFileSync(output));
    assert.deepEqual([model.name, classes], ["small", ["cat", "dog"]]);
  });

  it("--json: one line with the same", async () => {
    const output = join(folder, "json.safetensors");
    const { stdout } = await dsnet(file, "-o", output, "--spec", spec, "--json");
    const { facts, ...rest } = JSON.parse(stdout);
    assert.equal(facts["args.lr"], 0.25);
    assert.deepEqual(rest, {
      ...{ file, format: "zip", entry: "state_dict", tensors: 52, dropped: 13, model: "small", classes: 2 },
      ...{ candidates: [0, 1], calibrated: [0, 1, 2, "largest"], ignored: ["optimizer", "args"] },
      ...{ inert: ["argparse.Namespace"], output },
    });
  });

  it("warns where the gate is not trained or a width not measured", async () => {
    const fresh = weights();
    for (const [kind, value] of [
      ["running_mean", 0],
      ["running_var", 1],
    ] as const) {
      const { data } = fresh.get(`bn1.aux_bn.1.${kind}`)!;
      new Float32Array(data.buffer).fill(value);
    }
    const supernet = put(
      "supernet.pth",
      saveZip(
        new Map([
          ["state_dict", stateDict(fresh)],
          ["args", namespace({ gate_train: false })],
        ]),
      ),
    );
    const { status, stderr } = await dsnet(supernet, "-o", join(folder, "warned.safetensors"), "--spec", spec);
    assert.equal(status, 0);
    assert.match(stderr, /warning: .*its gate is not trained/);
    assert.match(stderr, /warning: no measured norm statistics, so not usable: width largest\n/);
  });

  it("refuses what it should, and names the file", async () => {
    await refused(
      1,
      /small\.pth\.tar: .*"argparse\.Namespace", which strict reading refuses/,
      file,
      "--spec",
      spec,
      "--strict",
    );
    await refused(1, /small\.pth\.tar: The file has no averaged weights/, file, "--spec", spec, "--ema");
    await refused(1, /fit no model of the registry/, file);
    await refused(2, /expected one of ds_mbnet/, file, "--model", "resnet");
    await refused(2, /either --model or --spec/, file, "--model", "ds_mbnet", "--spec", spec);
    await refused(2, /There is no file/, join(folder, "absent.pth"));
  });

  it("refuses a table or labels that make no sense, and names the place", async () => {
    const table = (change: object) => put(`t${Math.random()}.json`, JSON.stringify({ ...SPEC, ...change }));
    await refused(
      2,
      /"table\.stem\.widths" is wrong: expected a list, got 3/,
      file,
      "--spec",
      table({ stem: { ...SPEC.stem, widths: 3 } }),
    );
    await refused(
      2,
      /expected ascending channel counts/,
      file,
      "--spec",
      table({ stem: { ...SPEC.stem, widths: [4, 2] } }),
    );
    await refused(2, /JSON/, file, "--spec", put("broken.json", "{"));
    await refused(2, /line 2 is empty/, file, "--spec", spec, "--labels", put("hole.txt", "a\n\nb\n"));
    await refused(2, /expected 2, one for each class/, file, "--spec", spec, "--labels", put("one.txt", "a\n"));
  });

  it("does not write over the checkpoint", async () => {
    const before = readFileSync(file);
    const { status, stderr } = await dsnet(file, "-o", file, "--spec", spec);
    assert.equal(status, 2);
    assert.match(stderr, /expected another file/);
    assert.equal(Buffer.compare(readFileSync(file), before), 0);
  });
});
