import assert from "node:assert/strict";
import { cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { encodeModel } from "../../src/io/model-file.js";
import { readModelFile } from "../../src/io/model-file-node.js";
import type { TrainEvent } from "../../src/train/events.js";
import { train } from "../../src/train/train-node.js";
import { temporaryFolder } from "../data/support.js";
import {
  dsnet,
  finish,
  killed,
  METHODS,
  type Method,
  remains,
  smallConfig,
  trainArgs,
  writeImages,
} from "./small-run.js";

const folder = temporaryFolder();
const data = writeImages(join(folder, "data"));

/** What a run on one thread leaves that nothing disturbed. */
const undisturbed = new Map<Method, { files: Record<string, string>; events: number }>();
async function expected(method: Method) {
  if (!undisturbed.has(method)) {
    const config = smallConfig(data, join(folder, method), method);
    const { events } = await finish(config);
    undisturbed.set(method, { files: remains(config.output), events: events.length });
  }
  return undisturbed.get(method)!;
}

/** Threads and data workers must not matter either: every start takes others. */
const COUNTS = [
  ["--threads", "2", "--workers", "0"],
  ["--threads", "1", "--workers", "1"],
];

for (const method of METHODS) {
  describe(`a training with the gate's ${method}`, () => {
    it("leaves the same files, bit by bit, when it is killed again and again", async () => {
      const { files, events } = await expected(method);
      const config = smallConfig(data, join(folder, `${method}-killed`), method);
      const moments: string[] = [];
      for (const flags of COUNTS) {
        const count = 1 + Math.floor((Math.random() * events) / 2);
        const milliseconds = Math.random() * 40;
        const last = await killed(config, count, milliseconds, flags);
        moments.push(
          `${flags.join(" ")}: ${milliseconds.toFixed(1)} ms behind event ${count}, ${JSON.stringify(last)}`,
        );
      }
      await finish(config, ["--threads", "4", "--workers", "0"]);
      assert.deepEqual(remains(config.output), files, moments.join("\n"));
    });
  });
}

describe("a training", () => {
  it("leaves the same files for any number of threads and workers", async () => {
    const { files } = await expected("probability");
    const config = smallConfig(data, join(folder, "counts"), "probability");
    await train({ ...config, threads: 2, workers: 3 });
    assert.deepEqual(remains(config.output), files);
  });

  it("that is done can be resumed, and stays as it is", async () => {
    const { files } = await expected("probability");
    const { code } = await dsnet(["train", "--resume", "--output", join(folder, "probability")]);
    assert.equal(code, 0);
    assert.deepEqual(remains(join(folder, "probability")), files);
  });

  it("is not resumed as another network, though its tensors fit that too", async () => {
    const { files } = await expected("probability");
    const config = smallConfig(data, join(folder, "table"), "probability");
    cpSync(join(folder, "probability"), config.output, { recursive: true });
    const last = join(config.output, "last.safetensors");
    const file = await readModelFile(last);
    const saveWith = (change: object) =>
      writeFileSync(
        last,
        encodeModel({ ...file, model: { ...file.model, spec: { ...(file.model.spec as object), ...change } } }),
      );
    saveWith({ act: "relu" });
    await assert.rejects(train(config, { resume: true }), {
      code: "ERR_USAGE",
      message: /another table of ds_mbnet_28/,
    });
    saveWith({ description: "the same in other words" });
    await train(config, { resume: true });
    assert.deepEqual(Object.keys(remains(config.output)), Object.keys(files));
  });
});

describe("SIGINT", { skip: process.platform === "win32" && "Windows has no such signal" }, () => {
  const interruptAt = (config: ReturnType<typeof smallConfig>, moment: (event: TrainEvent) => boolean) => {
    let sent = false;
    return dsnet(trainArgs(config), (event, child) => {
      if (sent || !moment(event)) return;
      sent = true;
      child.kill("SIGINT");
    });
  };

  it("finishes the step, saves, ends with 130, and resuming gives the same weights", async () => {
    const { files } = await expected("gumbel");
    const config = smallConfig(data, join(folder, "interrupted"), "gumbel");
    const first = await interruptAt(config, (e) => e.type === "step" && e.step === 4);
    assert.equal(first.code, 130);
    assert.match(first.stderr, /interrupted: finishing this step and saving[\s\S]*dsnet train --resume --output/);
    const steps = first.events.filter((event) => event.type === "step");
    const { training } = await readModelFile(join(config.output, "last.safetensors"));
    assert.equal(training!.step, steps.at(-1)!.step);

    const second = await interruptAt(config, (e) => e.type === "step" && e.stage === "gate");
    assert.equal(second.code, 130);
    const amid = (await readModelFile(join(config.output, "last.safetensors"))).training!;
    const last = second.events.filter((event) => event.type === "step").at(-1)!;
    assert.deepEqual([amid.stage, amid.epoch, amid.step], ["gate", 0, last.step]);
    assert.ok(last.step < last.steps, "amid an epoch");
    await finish(config);
    assert.deepEqual(remains(config.output), files);
  });

  it("once more ends it at once, between batches of any work, and the checkpoint is whole", async () => {
    const config = smallConfig(writeImages(join(folder, "long"), 120, 3000), join(folder, "twice"), "probability");
    let asked = 0;
    const { code, stderr, events } = await dsnet(trainArgs(config), (event, child) => {
      if (event.type !== "phase" || event.name !== "validate") return;
      // One a phase event: the second comes when the first was heard.
      if (asked++ < 2) child.kill("SIGINT");
    });
    assert.equal(code, 130);
    assert.match(stderr, /^interrupted: .*once more to stop at once\n$/);
    const last = events.filter((event) => event.type === "phase").at(-1)!;
    assert.ok(last.done < last.total, "it went on to the end");
    assert.ok(!existsSync(join(config.output, "report.html")));
    assert.equal((await readModelFile(join(config.output, "last.safetensors"))).training!.stage, "gate");
  });
});
