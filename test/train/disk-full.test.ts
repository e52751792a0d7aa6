import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readModelFile } from "../../src/io/model-file-node.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { TrainConfig } from "../../src/train/config.js";
import { temporaryFolder } from "../data/support.js";
import { dsnet, finish, smallConfig, trainArgs, writeImages } from "./small-run.js";

const folder = temporaryFolder();
const data = writeImages(join(folder, "data"));

/** Bytes of a disk on which one checkpoint fits (student, teacher, momentum), and the next beside it does not. */
function tooSmall(config: TrainConfig): number {
  const { floats, trainable } = build(modelSpec(config.model)).layout;
  return Math.ceil((2 * floats + trainable) * 4 * 1.6);
}

describe("a training on a disk that fills up", () => {
  it("ends with exit code 1 and advice; the checkpoint is whole, and with more room it goes on", async (t) => {
    const disk = join(folder, "disk");
    const config = smallConfig(data, join(disk, "run"), "probability");
    mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${tooSmall(config)}`, "tmpfs", disk], { stdio: "ignore" });
    } catch {
      return t.skip("mounting a small file system is not allowed here");
    }
    try {
      const { code, stderr, events } = await dsnet(trainArgs(config));
      assert.equal(code, 1);
      assert.match(
        stderr,
        /^error\[ERR_STORAGE\]: Could not write .*last\.safetensors: The disk is full: free some space/,
      );
      assert.ok(events.some((event) => event.type === "step"));
      const kept = await readModelFile(join(config.output, "last.safetensors"));
      assert.equal(kept.training!.step, config.recovery_interval);
      assert.deepEqual(readdirSync(config.output).sort(), [
        "args.yaml",
        "last.safetensors",
        "metrics.jsonl",
        "results.csv",
        "seconds.json",
      ]);

      execFileSync("mount", ["-o", "remount,size=50m", disk]);
      await finish(config);
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
  });
});
