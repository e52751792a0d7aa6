import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

function dsnet(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { ...process.env, DEBUG: "", NO_COLOR: "1", FORCE_COLOR: "" };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

/** Refused as wrong usage: code 2, nothing on stdout, the reason on stderr. */
async function refused(args: string[], reason: RegExp): Promise<void> {
  const { status, stdout, stderr } = await dsnet(...args);
  assert.match(stderr, reason);
  assert.doesNotMatch(stderr, /\n {4}at /, "a stack is shown");
  assert.deepEqual({ status, stdout }, { status: 2, stdout: "" });
}

describe("dsnet", { concurrency: 4 }, () => {
  it("can be run as a file", () => {
    assert.match(readFileSync(main, "utf8"), /^#!\/usr\/bin\/env node\n/);
  });

  it("--help names every verb", async () => {
    const { status, stdout, stderr } = await dsnet("--help");
    assert.deepEqual([status, stderr], [0, ""]);
    for (const verb of ["train", "val", "predict", "export", "inspect", "checks", "demo"]) {
      assert.match(stdout, RegExp(`\n  ${verb} `));
    }
  });

  it("--version is the package's", async () => {
    assert.match((await dsnet("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it("a verb's help has its settings, defaults and examples", async () => {
    const { status, stdout } = await dsnet("help", "train");
    assert.equal(status, 0);
    assert.match(stdout, /--gate\.weight-decay <n> +weight decay of the gate\n/);
    assert.match(stdout, /--epochs <n> +[^(]*\(default: 10\)/);
    assert.match(stdout, /--gate\.epochs <n> +[^(]*\n {2}--/, "models with several gates take others");
    assert.match(stdout, /Examples:/);
  });

  it("no verb: the help, as an error", async () => {
    const { status, stderr } = await dsnet();
    assert.equal(status, 2);
    assert.match(stderr, /^Usage: dsnet/);
  });

  it("an unknown verb suggests the nearest", () =>
    refused(["trian"], /^error\[ERR_USAGE\]: .*'trian'.*Did you mean train\?/));

  it("an unknown setting suggests the one that was meant", () =>
    refused(
      ["train", "--label_smoothing=1"],
      /unknown option '--label-smoothing'; did you mean `--smoothing`\?\nsee `dsnet train --help`/,
    ));

  it("an unknown flag of a verb suggests the nearest", () =>
    refused(["predict", "a", "--model", "m", "--jsn"], /Did you mean --json\?/));

  it("wrong settings are all named", () =>
    refused(
      ["train", "--lr", "x", "--batch_size", "0"],
      /4 mistakes[\s\S]*`--lr`[\s\S]*`--batch-size`[\s\S]*no model[\s\S]*no data/,
    ));

  const mistakes: [string[], RegExp][] = [
    [["predict", "--model", "x"], /missing required argument 'image'/],
    [["predict", "a", "--model", "x", "--width", "-1"], /Expected a width.s number, largest or smallest/],
    [["predict", "a", "--model", "x", "--width", "1", "--budget-madds", "5"], /cannot be used with/],
    [["val", "x", "--data", "y", "--device", "gpu"], /Allowed choices are auto, native, wasm/],
    [["inspect"], /expected either a model or --list/],
    [["train", "--resume"], /expected the run's folder: give --output/],
    [["train", "--resume", "--output", "no-such-run"], /expected a run in no-such-run, found no args.yaml/],
  ];
  for (const [args, reason] of mistakes) it(`${args.join(" ")}: refused`, () => refused(args, reason));

  it("--verbose shows where an error comes from", async () => {
    const { status, stderr } = await dsnet("train", "--config", "no-such-file.yaml", "--verbose");
    assert.equal(status, 2);
    assert.match(stderr, /^error\[ERR_USAGE\]: no-such-file.yaml: .*\n[\s\S]*\n {4}at [\s\S]*caused by Error: ENOENT/);
  });
});
