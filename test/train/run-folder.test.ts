import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";
import { parse } from "yaml";
import { float32Tensor } from "../../src/io/float32.js";
import type { ModelFile } from "../../src/io/model-file.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import { RunFolder } from "../../src/train/run-folder-node.js";

// In memory where possible: flushing to a busy disk would take most of the tests' time.
const scratch = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "dsnet-run-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

let folders = 0;
const newPath = () => join(scratch, `run${folders++}`);
const read = (path: string, name: string) => readFileSync(join(path, name), "utf8");

const args = {
  model: "ds_mbnet_32",
  output: "out",
  seed: 0,
  device: "auto",
  threads: 2,
  workers: 1,
  lr: 0.1,
  gate: { lr: 0.01, candidates: [0, 1] },
  subset: null,
};

function checkpoint(stage: string, epoch: number, step: number): ModelFile {
  return {
    model: { name: "ds_mbnet_32", spec: {} },
    classes: ["a", "b"],
    preprocessing: { height: 8, width: 8, channels: 1, mean: [0], std: [1], interpolation: "bilinear", cropPct: 1 },
    candidates: [],
    training: { stage, epoch, step },
    tensors: new Map([["w", float32Tensor([1], Float32Array.of(step))]]),
  };
}

const EPOCHS = 3;
const STEPS = 4;
const STAGES = ["supernet", "gate"];

/** Trains as far as it is told: two stages, a checkpoint in the middle of each epoch and at its end. */
async function train(run: RunFolder, stopAfterSteps = Number.POSITIVE_INFINITY): Promise<void> {
  const start = run.checkpoint?.training ?? { stage: STAGES[0]!, epoch: 0, step: 0 };
  let { step } = start;
  for (const [index, stage] of STAGES.entries()) {
    if (index < STAGES.indexOf(start.stage)) continue;
    for (let epoch = stage === start.stage ? start.epoch : 0; epoch < EPOCHS; epoch++) {
      const done = (index * EPOCHS + epoch) * STEPS;
      for (let i = step - done; i < STEPS; i++) {
        if (step >= stopAfterSteps) return;
        step++;
        run.step({ stage, epoch, step, loss: 1 / step });
        if (i === 1) await run.save("last", checkpoint(stage, epoch, step));
      }
      run.epoch({ stage, epoch, step, note: `a "quoted", note`, top1: step / 100 });
      if (epoch === 1) await run.save("best", checkpoint(stage, epoch + 1, step));
      await run.save("last", checkpoint(stage, epoch + 1, step));
    }
  }
}

const LOGS = ["results.csv", "metrics.jsonl"];
const FILES = ["args.yaml", "best.safetensors", "last.safetensors", "metrics.jsonl", "results.csv"];

/** What a run that was never interrupted leaves behind. */
let finished: Record<string, Buffer>;
async function uninterrupted(): Promise<Record<string, Buffer>> {
  if (!finished) {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await train(run);
    await run.close();
    finished = Object.fromEntries(FILES.map((name) => [name, readFileSync(join(path, name))]));
  }
  return finished;
}

async function resumeAndCompare(path: string, what: string): Promise<void> {
  const run = await RunFolder.open(path, args, { resume: true });
  assert.deepEqual(run.warnings, [], what);
  await train(run);
  await run.close();
  assert.deepEqual(readdirSync(path).sort(), [...FILES, "seconds.json"], what);
  for (const name of FILES)
    assert.ok(readFileSync(join(path, name)).equals((await uninterrupted())[name]!), `${what}: ${name} differs`);
}

describe("a new run", () => {
  it("writes its arguments, one CSV row an epoch, one JSON line a step, and the checkpoints", async () => {
    const files = await uninterrupted();
    assert.deepEqual(parse(String(files["args.yaml"])), args);
    const csv = String(files["results.csv"]).split("\n");
    assert.equal(csv[0], "stage,epoch,step,note,top1");
    assert.equal(csv[1], 'supernet,0,4,"a ""quoted"", note",0.04');
    assert.equal(csv.length, 1 + STAGES.length * EPOCHS + 1);
    const lines = String(files["metrics.jsonl"]).trimEnd().split("\n");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).step),
      Array.from({ length: 24 }, (_, i) => i + 1),
    );
  });

  it("makes the folder, also inside others, and accepts one with other files", async () => {
    const path = join(newPath(), "a", "b");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "notes.txt"), "mine");
    await (await RunFolder.open(path, args, { resume: false })).close();
    assert.equal(read(path, "notes.txt"), "mine");
    const deep = join(newPath(), "c", "d");
    await (await RunFolder.open(deep, args, { resume: false })).close();
    assert.ok(existsSync(join(deep, "args.yaml")));
  });

  it("refuses a folder that holds a run, and leaves it as it is", async () => {
    for (const name of FILES) {
      const path = newPath();
      mkdirSync(path);
      writeFileSync(join(path, name), "kept");
      await assert.rejects(RunFolder.open(path, args, { resume: false }), {
        code: "ERR_USAGE",
        message: new RegExp(`${name}.*--resume.*--output`),
      });
      assert.deepEqual(readdirSync(path), [name]);
      assert.equal(read(path, name), "kept");
    }
  });

  it("refuses a path that is a file", async () => {
    const path = newPath();
    writeFileSync(path, "");
    await assert.rejects(RunFolder.open(path, args, { resume: false }), { code: "ERR_STORAGE" });
  });

  it("cannot be opened twice at once, and can again once closed", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await assert.rejects(RunFolder.open(path, args, { resume: true }), { code: "ERR_USAGE", message: /in use/ });
    await run.close();
    await (await RunFolder.open(path, args, { resume: true })).close();
  });
});

describe("logging", () => {
  it("fixes the columns by the first row: absent values stay empty, unknown ones are refused", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    run.epoch({ stage: "supernet", epoch: 0, top1: 0.5, madds: null });
    run.epoch({ stage: "gate", epoch: 0, madds: 12e6 });
    assert.throws(() => run.epoch({ stage: "gate", epoch: 1, auc: 0.5 }), {
      code: "ERR_USAGE",
      message: /no room for auc/,
    });
    assert.throws(() => run.epoch({ stage: "two\nlines", epoch: 1 }), { code: "ERR_USAGE", message: /line break/ });
    await run.close();
    assert.equal(read(path, "results.csv"), "stage,epoch,top1,madds\nsupernet,0,0.5,\ngate,0,,12000000\n");
  });

  it("keeps NaN and infinities", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    run.step({ stage: "gate", epoch: 0, step: 1, loss: Number.NaN, norms: [Number.POSITIVE_INFINITY] });
    await run.close();
    assert.equal(
      read(path, "metrics.jsonl"),
      '{"stage":"gate","epoch":0,"step":1,"loss":"NaN","norms":["Infinity"]}\n',
    );
  });

  it("takes no checkpoint without its place in training", async () => {
    const run = await RunFolder.open(newPath(), args, { resume: false });
    const { training, ...file } = checkpoint("gate", 0, 0);
    await assert.rejects(run.save("last", file), { code: "ERR_USAGE" });
    await run.close();
  });
});

describe("a resumed run", () => {
  it("goes on from the last checkpoint after a stop at any step", async () => {
    for (let steps = 0; steps <= 24; steps++) {
      const path = newPath();
      const run = await RunFolder.open(path, args, { resume: false });
      await train(run, steps);
      await run.close();
      await resumeAndCompare(path, `stopped after ${steps} steps`);
    }
  });

  it("has every row once, wherever the logs behind the checkpoint were cut off", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await train(run, 10); // the last checkpoint is at 10
    const safe = LOGS.map((name) => readFileSync(join(path, name)).length);
    run.step({ stage: "supernet", epoch: 2, step: 11, loss: 1 / 11 });
    run.step({ stage: "supernet", epoch: 2, step: 12, loss: 1 / 12 });
    run.epoch({ stage: "supernet", epoch: 2, step: 12, note: "ü", top1: 0.12 });
    await run.close();
    const full = LOGS.map((name) => readFileSync(join(path, name)));
    for (const [i, name] of LOGS.entries()) {
      for (let length = safe[i]!; length <= full[i]!.length; length++) {
        for (const [j, other] of LOGS.entries()) writeFileSync(join(path, other), full[j]!);
        truncateSync(join(path, name), length);
        const again = await RunFolder.open(path, args, { resume: true });
        await again.close();
        assert.deepEqual(again.warnings, []);
        for (const [j, log] of LOGS.entries()) {
          assert.ok(
            readFileSync(join(path, log)).equals(full[j]!.subarray(0, safe[j])),
            `${log}, ${name} cut at ${length}`,
          );
        }
      }
    }
    await resumeAndCompare(path, "cut at every length");
  });

  it("starts at the beginning when killed before the first checkpoint", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await train(run, 1);
    await run.close();
    assert.match(read(path, "metrics.jsonl"), /"step":1/);
    for (const name of LOGS) {
      rmSync(join(path, name));
      await resumeAndCompare(path, `${name} not yet made`);
      for (const file of ["best.safetensors", "last.safetensors"]) rmSync(join(path, file));
    }
  });

  it("finds its rows and the file of its checkpoint untouched when the law already holds", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await train(run);
    await run.close();
    const again = await RunFolder.open(path, args, { resume: true });
    assert.deepEqual(again.checkpoint!.training!.step, 24);
    assert.deepEqual([...again.checkpoint!.tensors.get("w")!.data], [...new Uint8Array(Float32Array.of(24).buffer)]);
    await again.close();
    for (const name of FILES) assert.ok(readFileSync(join(path, name)).equals((await uninterrupted())[name]!), name);
  });

  it("warns of rows that someone removed", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await train(run);
    await run.close();
    rmSync(join(path, "results.csv"));
    truncateSync(join(path, "metrics.jsonl"), 0);
    const again = await RunFolder.open(path, args, { resume: true });
    assert.deepEqual(
      again.warnings.map((w) => w.split(":")[0]),
      ["results.csv should have 6 rows and has 0", "metrics.jsonl should have 24 rows and has 0"],
    );
    await again.close();
  });

  it("that never began leaves nothing, and no folder where there was none", async () => {
    const path = newPath();
    await (await RunFolder.open(path, args, { resume: false })).close({ discard: true });
    assert.ok(!existsSync(path));
    mkdirSync(path);
    await (await RunFolder.open(path, args, { resume: false })).close({ discard: true });
    assert.deepEqual(readdirSync(path), []);
  });

  it("clears away what a killed write left, and no other file", async () => {
    const path = newPath();
    await (await RunFolder.open(path, args, { resume: false })).close();
    for (const name of [".last.safetensors.00ff00ff00ff.tmp", "mine.tmp", ".hidden"])
      writeFileSync(join(path, name), "");
    await (await RunFolder.open(path, args, { resume: true })).close();
    assert.deepEqual(readdirSync(path).sort(), [".hidden", "args.yaml", "metrics.jsonl", "mine.tmp", "results.csv"]);
  });

  it("needs a run to resume, and makes no folder where there is none", async () => {
    const path = newPath();
    await assert.rejects(RunFolder.open(path, args, { resume: true }), {
      code: "ERR_USAGE",
      message: /no run to resume.*without --resume/,
    });
    await assert.rejects(RunFolder.readArgs(path), { code: "ERR_USAGE", message: /no run to resume/ });
    assert.ok(!existsSync(path));
  });

  it("refuses a broken checkpoint, one of no run, and broken arguments, by name", async () => {
    const path = newPath();
    const run = await RunFolder.open(path, args, { resume: false });
    await run.save("last", checkpoint("supernet", 0, 0));
    await run.close();
    const file = join(path, "last.safetensors");
    const good = readFileSync(file);
    truncateSync(file, good.length - 1);
    await assert.rejects(RunFolder.open(path, args, { resume: true }), {
      code: "ERR_FORMAT",
      message: /last\.safetensors: MetadataIncompleteBuffer/,
    });
    const { encodeModel } = await import("../../src/io/model-file.js");
    writeFileSync(file, encodeModel(checkpoint("supernet", 0, 0)));
    await assert.rejects(RunFolder.open(path, args, { resume: true }), {
      code: "ERR_FORMAT",
      message: /no checkpoint of a training run/,
    });
    writeFileSync(file, good);
    for (const text of ["a: [", "- a list", "text", ""]) {
      writeFileSync(join(path, "args.yaml"), text);
      await assert.rejects(RunFolder.open(path, args, { resume: true }), {
        code: "ERR_FORMAT",
        message: /args\.yaml (is not YAML|should be a YAML mapping)/,
      });
    }
  });
});

describe("the arguments of a resumed run", () => {
  async function resumeWith(changed: object): Promise<RunFolder> {
    const path = newPath();
    await (await RunFolder.open(path, args, { resume: false })).close();
    return RunFolder.open(path, changed, { resume: true });
  }

  it("are those stored", async () => {
    const path = newPath();
    await (await RunFolder.open(path, args, { resume: false })).close();
    const run = await RunFolder.open(path, await RunFolder.readArgs(path), { resume: true });
    assert.deepEqual(run.warnings, []);
    await run.close();
  });

  it("may differ where the result does not, with a warning for the device", async () => {
    const run = await resumeWith({ ...args, output: "elsewhere", threads: 8, workers: 0 });
    assert.deepEqual(run.warnings, []);
    await run.close();
    const other = await resumeWith({ ...args, device: "wasm" });
    assert.match(other.warnings.join(), /^device: "auto" → "wasm": .*last bits/);
    await other.close();
  });

  it("may not differ elsewhere: every such key is named with both values", async () => {
    const { seed, ...rest } = args;
    const changed = { ...rest, lr: 0.2, gate: { lr: 0.01, candidates: [0, 2] }, subset: 10, extra: true, threads: 9 };
    await assert.rejects(resumeWith(changed), (error: Error & { code: string }) => {
      assert.equal(error.code, "ERR_USAGE");
      assert.deepEqual(error.message.split("\n").slice(1, -1).sort(), [
        "  extra: not set → true",
        "  gate.candidates: [0,1] → [0,2]",
        "  lr: 0.1 → 0.2",
        "  seed: 0 → not set",
        "  subset: null → 10",
      ]);
      return true;
    });
  });

  it("that an earlier release did not know are named, with what to do", async () => {
    const path = newPath();
    await (await RunFolder.open(path, args, { resume: false })).close();
    const newer = { ...args, gate: { ...args.gate, routing: "cascade" } };
    await assert.rejects(RunFolder.open(path, newer, { resume: true }), {
      code: "ERR_USAGE",
      message: /did not know these settings:\n {2}gate\.routing: "cascade"\nAdd them to its args\.yaml/,
    });
    await (await RunFolder.open(path, args, { resume: true })).close();
  });
});

describe("a run killed again and again", () => {
  it("ends with the same files as one that never was", async () => {
    const expected = await uninterrupted();
    const path = newPath();
    const script = `
      import { RunFolder } from ${JSON.stringify(new URL("../../src/train/run-folder-node.js", import.meta.url).href)};
      const checkpoint = ${checkpoint.toString()};
      import { float32Tensor } from ${JSON.stringify(new URL("../../src/io/float32.js", import.meta.url).href)};
      const [STAGES, EPOCHS, STEPS] = ${JSON.stringify([STAGES, EPOCHS, STEPS])};
      ${train.toString()}
      const run = await RunFolder.open(${JSON.stringify(path)}, ${JSON.stringify(args)}, { resume: process.argv[1] === "resume" });
      const step = run.step.bind(run);
      console.log("open");
      const pause = new Int32Array(new SharedArrayBuffer(4));
      run.step = (record) => { Atomics.wait(pause, 0, 0, 5); step(record); };
      await train(run);
      await run.close();`;
    let kills = 0;
    for (let start = 0; start <= 12; start++) {
      const mode = existsSync(join(path, "args.yaml")) ? "resume" : "new";
      const child = spawn(process.execPath, ["--input-type=module", "-e", script, mode], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const exit = once(child, "exit");
      await Promise.race([once(child.stdout!, "data"), exit]);
      if (start < 12) {
        await Promise.race([exit, setTimeout(5 + ((start * 7919) % 41))]);
        child.kill("SIGKILL"); // without effect where the run has ended
      }
      const [code] = await exit;
      if (code !== null) {
        assert.equal(code, 0);
        break;
      }
      kills++;
      if (existsSync(join(path, "last.safetensors"))) await readModelFile(join(path, "last.safetensors"));
    }
    assert.ok(kills > 2, `only ${kills} kills: the test proves little`);
    for (const name of FILES) assert.ok(readFileSync(join(path, name)).equals(expected[name]!), `${name} differs`);
  });
});

describe("the time of a run", () => {
  it("counts every sitting up to its last checkpoint", async () => {
    const path = join(scratch, "seconds");
    assert.equal(await RunFolder.readSeconds(path), 0);
    let last = 0;
    for (const resume of [false, true, true]) {
      const folder = await RunFolder.open(path, { a: 1 }, { resume });
      assert.ok(folder.seconds >= last && folder.seconds < last + 5);
      await setTimeout(120);
      await folder.save("last", checkpoint("supernet", 0, 0));
      await folder.close();
      const seconds = await RunFolder.readSeconds(path);
      assert.ok(seconds >= last + 0.1, `${seconds} after ${last}`);
      last = seconds;
    }
  });
});
