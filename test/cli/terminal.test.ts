import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, it } from "node:test";
import { interruptible, type SignalSource } from "../../src/cli/interrupt.js";
import { editDistance, nearest } from "../../src/cli/nearest.js";
import { Progress } from "../../src/cli/progress.js";
import { displayWidth, printable, table, truncate } from "../../src/cli/table.js";
import { hasColour, Terminal } from "../../src/cli/terminal.js";
import { formatBytes, formatCount, formatMadds, formatPercent, formatSeconds } from "../../src/cli/units.js";
import { FakeStream } from "./fake-stream.js";

describe("table", () => {
  const columns = [{ title: "file" }, { title: "score", align: "right" as const }, { title: "note" }];

  it("aligns columns, numbers to the right, without spaces at the ends of lines", () => {
    assert.equal(
      table(columns, [
        ["a.png", "0.9", "x"],
        ["long name.png", "12.25", ""],
      ]),
      ["file           score  note", "a.png            0.9  x", "long name.png  12.25"].join("\n"),
    );
  });

  it("counts terminal cells: wide characters two, combining marks none", () => {
    assert.deepEqual(["狗", "🐈", "e\u0301", "ü", "한"].map(displayWidth), [2, 2, 1, 1, 2]);
    const lines = table(columns, [
      ["狗.png", "1", ""],
      ["cat.png", "2", ""],
    ]).split("\n");
    assert.equal(new Set(lines.slice(1).map(displayWidth)).size, 1);
  });

  it("shows what a terminal would obey", () => {
    assert.equal(printable("a\x1b[31m\n\u202eb"), "a\\x1b[31m\\x0a\\u202eb");
    assert(!table(columns, [["\x1b[2J", "1", "\x07"]]).includes("\x1b"));
  });

  it("truncates to cells, never through a wide character", () => {
    assert.equal(truncate("hello", 5), "hello");
    assert.equal(truncate("hello!", 5), "hell…");
    assert.equal(truncate("狗狗狗", 4), "狗…");
    assert.equal(truncate("hello", 0), "");
  });
});

describe("progress", () => {
  function started(stream: FakeStream) {
    let time = 0;
    const progress = new Progress(stream, () => time);
    return { progress, wait: (ms: number) => (time += ms) };
  }

  it("on a terminal redraws one line with rate and ETA, at most ten times a second", () => {
    const stream = new FakeStream({ isTTY: true, columns: 120 });
    const { progress, wait } = started(stream);
    progress.update({ label: "train", done: 0, total: 100, images: 0 });
    for (let done = 1; done <= 50; done++) {
      wait(20);
      progress.update({ label: "train", done, total: 100, images: done * 10, note: "loss 1.5" });
    }
    assert.equal(stream.writes.length, 11);
    assert(stream.writes.every((text) => text.startsWith("\r") && text.endsWith("\x1b[K") && !text.includes("\n")));
    assert.match(stream.writes.at(-1)!, /^\rtrain {2}█{12}░{12} {3}50 % {2}500 images\/s {2}ETA 1 s {2}loss 1\.5/);
    progress.clear();
    progress.clear();
    assert.equal(stream.writes.slice(11).join(""), "\r\x1b[K");
  });

  it("never fills the line to its end", () => {
    const stream = new FakeStream({ isTTY: true, columns: 30 });
    const { progress } = started(stream);
    progress.update({ label: "a label that is long", done: 1, total: 2, note: "x".repeat(50) });
    assert(displayWidth(stream.text.replace("\r", "").replace("\x1b[K", "")) < 30);
  });

  it("elsewhere writes a plain line every ten seconds, and nothing for what is quickly done", () => {
    const stream = new FakeStream();
    const { progress, wait } = started(stream);
    for (let second = 0; second <= 25; second++) {
      progress.update({ label: "train", done: second, total: 250 });
      wait(1000);
    }
    progress.update({ label: "val", done: 5, total: 5 });
    assert.deepEqual(stream.text.split("\n"), ["train    4 %  ETA 4:00", "train    8 %  ETA 3:50", ""]);
  });

  it("what a resumed run did before is no part of the rate", () => {
    const stream = new FakeStream({ isTTY: true, columns: 120 });
    const { progress, wait } = started(stream);
    progress.update({ label: "train", done: 90, total: 100, images: 900 });
    wait(1000);
    progress.update({ label: "train", done: 91, total: 100, images: 910 });
    assert.match(stream.text, / 10 images\/s {2}ETA 9 s/);
  });

  it("survives a total of zero", () => {
    const stream = new FakeStream({ isTTY: true });
    started(stream).progress.update({ label: "empty", done: 0, total: 0 });
    assert.match(stream.text, /empty .* 0 %/);
  });
});

describe("terminal", () => {
  it("colour: on a terminal only; FORCE_COLOR outranks NO_COLOR outranks that", () => {
    const tty = new FakeStream({ isTTY: true });
    const pipe = new FakeStream();
    assert.equal(hasColour(tty, {}), true);
    assert.equal(hasColour(pipe, {}), false);
    assert.equal(hasColour(tty, { NO_COLOR: "1" }), false);
    assert.equal(hasColour(tty, { NO_COLOR: "" }), true);
    assert.equal(hasColour(tty, { TERM: "dumb" }), false);
    assert.equal(hasColour(pipe, { FORCE_COLOR: "1", NO_COLOR: "1" }), true);
    assert.equal(hasColour(tty, { FORCE_COLOR: "0" }), false);
  });

  it("results go to stdout, everything else to stderr; with json stdout carries JSON alone", () => {
    for (const json of [false, true]) {
      const [stdout, stderr] = [new FakeStream(), new FakeStream()];
      const terminal = new Terminal({ json, stdout, stderr, env: {} });
      terminal.print("a table");
      terminal.emit({ loss: Number.NaN, accuracy: 0.5 });
      terminal.note("a remark");
      terminal.warn("careful");
      terminal.error("ERR_DATA", "no images");
      terminal.error(undefined, "a defect");
      assert.equal(stdout.text, json ? '{"loss":"NaN","accuracy":0.5}\n' : "a table\n");
      assert.equal(stderr.text, "a remark\nwarning: careful\nerror[ERR_DATA]: no images\nerror: a defect\n");
    }
  });

  it("takes the progress line away before it writes", () => {
    const both = new FakeStream({ isTTY: true });
    const terminal = new Terminal({ stdout: both, stderr: both, env: {}, now: () => 0 });
    terminal.progress.update({ label: "train", done: 1, total: 2 });
    terminal.print("epoch 1");
    assert(both.text.endsWith("\r\x1b[Kepoch 1\n"));
    // What reports an error is another Terminal on the same streams.
    terminal.progress.update({ label: "train", done: 2, total: 2 });
    new Terminal({ stdout: both, stderr: both, env: { NO_COLOR: "1" } }).error(undefined, "no space");
    assert(both.text.endsWith("\r\x1b[Kerror: no space\n"));
  });

  it("messages cannot command the terminal, and keep their lines", () => {
    const stderr = new FakeStream();
    new Terminal({ stdout: stderr, stderr, env: {} }).error("ERR_DATA", "bad \x1b[2J name\nsecond line");
    assert.equal(stderr.text, "error[ERR_DATA]: bad \\x1b[2J name\nsecond line\n");
  });
});

describe("units", () => {
  it("are short and right at every border", () => {
    assert.deepEqual([0, 950, 12_345, 999_499, 999_500, 12_345_678, 2.5e9].map(formatMadds), [
      "0",
      "950",
      "12.3 k",
      "999 k",
      "1.00 M",
      "12.3 M",
      "2.50 G",
    ]);
    assert.deepEqual([512, 1_500_000].map(formatBytes), ["512 B", "1.50 MB"]);
    assert.deepEqual([0.00321, 0.9994, 0.9996, 12.34, 59.96, 125, 3725].map(formatSeconds), [
      "3.21 ms",
      "999 ms",
      "1.0 s",
      "12.3 s",
      "1:00",
      "2:05",
      "1:02:05",
    ]);
    assert.equal(formatCount(60_000), "60,000");
    assert.equal(formatPercent(0.912345), "91.23 %");
  });
});

describe("nearest", () => {
  it("counts inserted, deleted, replaced and swapped letters", () => {
    assert.deepEqual(
      [
        ["", "abc"],
        ["kitten", "sitting"],
        ["epcohs", "epochs"],
        ["lr", "lr"],
      ].map(([a, b]) => editDistance(a!, b!)),
      [3, 3, 1, 0],
    );
  });

  it("offers nothing when all is far", () => {
    assert.equal(nearest("trian", ["val", "train"]), "train");
    assert.equal(nearest("xyzzy", ["val", "train"]), undefined);
    assert.equal(nearest("x".repeat(1e6), ["train"]), undefined);
  });
});

describe("interrupt", () => {
  class FakeProcess extends EventEmitter implements SignalSource {
    exits: number[] = [];
    exit(code: number) {
      this.exits.push(code);
    }
  }

  it("the first aborts, the second exits at once, and none is listened for afterwards", async () => {
    for (const [name, code] of [["SIGINT", 130] as const, ["SIGTERM", 143] as const]) {
      const source = new FakeProcess();
      let told = 0;
      const result = await interruptible(
        async (signal) => {
          source.emit(name, name);
          assert(signal.aborted);
          assert.deepEqual(source.exits, []);
          source.emit(name, name);
          return "saved";
        },
        () => told++,
        source,
      );
      assert.deepEqual(result, { value: "saved", exitCode: code });
      assert.deepEqual([told, source.exits], [1, [code]]);
      assert.equal(source.listenerCount(name), 0);
    }
  });

  it("undisturbed work ends with 0, failed work fails", async () => {
    const source = new FakeProcess();
    assert.deepEqual(await interruptible(async () => 1, assert.fail, source), { value: 1, exitCode: 0 });
    await assert.rejects(
      interruptible(() => Promise.reject(new Error("no")), assert.fail, source),
      /no/,
    );
    assert.equal(source.listenerCount("SIGINT"), 0);
  });
});
