import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { encode as encodePng } from "fast-png";
import { nativeIsas } from "../../src/backend/native.js";
import { openBackend } from "../../src/backend/open.js";
import { BudgetTable, firstWithin } from "../../src/engine/budget.js";
import { Network as NetworkClass } from "../../src/engine/network.js";
import type { RawImage } from "../../src/image/raw.js";
import { type Classification, listModels, load, type Network, type Width } from "../../src/index.js";
import { encodeModel, type ModelFile } from "../../src/io/model-file.js";
import { readSafetensors, writeSafetensors } from "../../src/io/safetensors.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { ModelSpec } from "../../src/models/spec.js";
import { temporaryFolder } from "../data/support.js";
import { sampleModel, stripes } from "../support/model.js";
import { fileOf } from "../support/slices.js";

const sample = await sampleModel();
const bytes = encodeModel(sample);
const net = build(sample.model.spec as ModelSpec);
const folder = temporaryFolder();

/** Runs `use` with the sample, or with what is left of it after some changes. */
async function withNetwork<T>(use: (network: Network) => T | Promise<T>, changes: Partial<ModelFile> = {}): Promise<T> {
  const network = await load(Object.keys(changes).length > 0 ? encodeModel({ ...sample, ...changes }) : bytes, {
    threads: 1,
  });
  try {
    return await use(network);
  } finally {
    network.dispose();
  }
}

/** Without the field, as a model that never had it. */
function without(key: keyof ModelFile): ModelFile {
  const { [key]: _, ...rest } = sample;
  return rest as ModelFile;
}

const untimed = (list: Classification[]) => list.map(({ ms, ...rest }) => rest);
const repeat = ({ data, width, height }: RawImage, channels: number): RawImage => ({
  data: Uint8ClampedArray.from({ length: data.length * channels }, (_, i) =>
    i % channels === 3 ? i : data[Math.floor(i / channels)]!,
  ),
  width,
  height,
});
const png = ({ data, width, height }: RawImage) =>
  encodePng({ data: Uint8Array.from(data), width, height, channels: 1, depth: 8 });

describe("classify", () => {
  it("gives labels best first, the gate's route, MAdds and time", () =>
    withNetwork(async (network) => {
      const [first, ...rest] = await network.classify(stripes(1)[0]!);
      assert.deepEqual(rest, []);
      const { labels, route, madds, ms } = first!;
      assert.equal(labels.length, 5);
      labels.forEach(({ label, score }, i) => {
        assert.ok(sample.classes.includes(label));
        assert.ok(score > 0 && score <= (labels[i - 1]?.score ?? 1));
      });
      assert.equal(route.length, 1);
      assert.equal(route[0]!.gate, net.gates[0]!.name);
      assert.ok(sample.candidates.includes(route[0]!.width));
      assert.equal(route[0]!.channels, net.slimWidths[0]![route[0]!.width]);
      const { madds: fixed } = (await network.classify(stripes(1), { width: route[0]!.width }))[0]!;
      assert.ok(madds > fixed && madds < fixed * 1.01, "the gate's own cost is counted");
      assert.ok(ms >= 0);
    }));

  it("takes a path, encoded bytes, raw grey, RGB, RGBA and ImageData's clamped bytes, all alike", () =>
    withNetwork(async (network) => {
      const image = stripes(1, 7)[0]!;
      const path = join(folder, "a.png");
      writeFileSync(path, png(image));
      const results = await network.classify([
        image,
        path,
        png(image),
        new Uint8Array(readFileSync(path)),
        repeat(image, 1),
        repeat(image, 3),
        repeat(image, 4),
      ]);
      for (const result of untimed(results)) assert.deepEqual(result, untimed(results)[0]);
    }));

  it("resizes images of another size, and takes none for an empty list", () =>
    withNetwork(async (network) => {
      const [result] = await network.classify({ data: new Uint8Array(50 * 31 * 3).fill(99), width: 50, height: 31 });
      assert.equal(result!.labels.length, 5);
      assert.deepEqual(await network.classify([]), []);
    }));

  it("topK limits the labels, whose scores sum up to 1 when all are asked for", () =>
    withNetwork(async (network) => {
      const [one] = await network.classify(stripes(1), { topK: 1 });
      const [all] = await network.classify(stripes(1), { topK: 1000 });
      assert.equal(one!.labels.length, 1);
      assert.deepEqual(one!.labels[0], all!.labels[0]);
      assert.equal(all!.labels.length, 10);
      assert.ok(Math.abs(all!.labels.reduce((sum, { score }) => sum + score, 0) - 1) < 1e-6);
    }));

  it("a width by name is the same as by number, has no route, and wider ones cost more", () =>
    withNetwork(async (network) => {
      const at = async (width: Width) => untimed(await network.classify(stripes(3), { width }));
      assert.deepEqual(await at("smallest"), await at(0));
      assert.deepEqual(await at("largest"), await at(5));
      let last = 0;
      for (let width = 0; width < network.widths; width++) {
        const [{ route, madds }] = (await at(width)) as [Classification];
        assert.deepEqual(route, []);
        assert.ok(madds > last);
        last = madds;
      }
      assert.deepEqual(await at("dynamic"), untimed(await network.classify(stripes(3))));
    }));

  it("what the gate chooses has the bits of that fixed width", () =>
    withNetwork(async (network) => {
      for (const image of stripes(10)) {
        const [dynamic] = await network.classify(image);
        const [fixed] = await network.classify(image, { width: dynamic!.route[0]!.width });
        assert.deepEqual(dynamic!.labels, fixed!.labels);
      }
    }));

  it("40 images at once equal one by one, at any width", () =>
    withNetwork(async (network) => {
      const images = stripes(40, 3);
      for (const width of ["dynamic", 2] as const) {
        const together = untimed(await network.classify(images, { width }));
        const alone: Classification[] = [];
        for (const image of images) alone.push(...(await network.classify(image, { width })));
        assert.deepEqual(together, untimed(alone));
        if (width === "dynamic") assert.ok(new Set(together.map(({ route }) => route[0]!.width)).size > 1, "one route");
      }
    }));

  it("a route has the bits and the cost of what the gates choose, and needs a width for each of them", async () => {
    const backend = await openBackend({ device: "wasm", threads: 1 });
    const file = fileOf(backend, { ...modelSpec("ds_resnet"), input: { height: 16, width: 16, channels: 3 } }, 0);
    backend.dispose();
    const network = await load(encodeModel(file), { device: "wasm", threads: 1 });
    const image = { data: Uint8Array.from({ length: 768 }, (_, i) => (i * 37) % 256), width: 16, height: 16 };
    const [dynamic] = await network.classify(image);
    const route = dynamic!.route.map(({ width }) => width);
    assert.equal(route.length, 7);
    const [fixed] = await network.classify(image, { width: route });
    assert.deepEqual(fixed!.labels, dynamic!.labels);
    assert.ok(fixed!.madds < dynamic!.madds, "the heads cost nothing");
    for (const [width, message] of [
      [[1, 2], "width: expected a width for each of the 7 gates, got 2"],
      [[0, 0, 0, 4, 0, 0, 0], "width: expected 0 to 3, largest, smallest or dynamic, got 4"],
    ] as const) {
      await assert.rejects(network.classify(image, { width }), { code: "ERR_USAGE", message });
    }
    network.dispose();
  });

  it("calls may overlap", () =>
    withNetwork(async (network) => {
      const images = stripes(6).map(png);
      const apart: Classification[][] = [];
      for (const image of images) apart.push(await network.classify(image));
      const together = await Promise.all(images.map((image) => network.classify(image)));
      assert.deepEqual(together.map(untimed), apart.map(untimed));
    }));
});

describe("budget", () => {
  const costs = sample.calibration!.map(({ madds }) => madds);
  const mean = (results: Classification[]) => results.reduce((sum, { madds }) => sum + madds, 0) / results.length;

  it("keeps the mean MAdds to what is asked for, to one image, on those that it was measured on", () =>
    withNetwork(async (network) => {
      const images = stripes(64);
      // The table's λ lie where one image changes its mind, and the engine adds in single precision: it may come out either way.
      const oneImage = Math.max(...costs) / images.length;
      for (const share of [1, 0.8, 0.5, 0.3]) {
        const madds = Math.ceil(share * Math.max(...costs));
        const fitting = costs.find((cost) => cost <= madds)!;
        const spent = mean(await network.classify(images, { budget: { madds } }));
        assert.ok(Math.abs(spent - fitting) <= oneImage, `${spent} of ${madds}, the table has ${fitting}`);
      }
      const spent = mean(await network.classify(images, { budget: { madds: Math.min(...costs) } }));
      assert.equal(spent, Math.min(...costs));
    }));

  it("does not outlast its call", () =>
    withNetwork(async (network) => {
      const images = stripes(64);
      const before = untimed(await network.classify(images));
      await network.classify(images, { budget: { madds: Math.min(...costs) } });
      assert.deepEqual(untimed(await network.classify(images)), before);
    }));

  it("that cannot be reached is refused with what can be", () =>
    withNetwork(async (network) => {
      const [least, most] = [Math.ceil(Math.min(...costs)), Math.ceil(Math.max(...costs))];
      for (const madds of [least - 1, 0, -5, Number.NaN]) {
        await assert.rejects(network.classify(stripes(1), { budget: { madds } }), {
          code: "ERR_USAGE",
          message: `budget: ${madds} MAdds cannot be reached; this model spends ${least} to ${most}`,
        });
      }
    }));

  it("needs the gate and a table", async () => {
    await withNetwork(async (network) => {
      const asked = network.classify(stripes(1), { width: 2, budget: { madds: 1e9 } });
      await assert.rejects(asked, { code: "ERR_USAGE", message: /a budget chooses the width itself/ });
    });
    const network = await load(encodeModel(without("calibration")));
    await assert.rejects(network.classify(stripes(1), { budget: { madds: 1e9 } }), {
      code: "ERR_USAGE",
      message: /no budget table/,
    });
    network.dispose();
  });

  it("takes the first entry whose cost fits", () => {
    const costs = [30, 20, 10];
    assert.deepEqual(
      [99, 30, 29, 20, 10, 9.9, Number.NaN].map((budget) => firstWithin(costs, budget)),
      [0, 0, 1, 1, 2, -1, -1],
    );
  });

  const table = new BudgetTable(
    [
      { lambda: -1, madds: 30, accuracy: 0.9, shares: [0, 0, 1] },
      { lambda: 0, madds: 22, accuracy: 0.8, shares: [0.2, 0.4, 0.4] },
      { lambda: 2, madds: 10, accuracy: 0.5, shares: [1, 0, 0] },
    ],
    { candidates: [1, 2, 4], madds: [10, 20, 30], latency: () => [2, 5, 6] },
  );

  it("in ms is reckoned with each candidate's latency and share", () => {
    // 6, 0.4 + 2 + 2.4 = 4.8, and 2 ms
    for (const [ms, lambda] of [
      [6, -1],
      [5.9, 0],
      [4.81, 0],
      [4.7, 2],
      [2, 2],
    ] as const) {
      assert.equal(table.within({ ms }).lambda, lambda, `${ms} ms`);
    }
    const message = "budget: 1.9 ms cannot be reached; this model takes 2 to 6 ms here";
    assert.throws(() => table.within({ ms: 1.9 }), { code: "ERR_USAGE", message });
  });

  it("by width is what that width costs, among those that the gate chooses", () => {
    assert.deepEqual(
      [1, 2, 4].map((width) => table.within({ width }).lambda),
      [2, 2, -1],
    );
    const message = "budget: width 3 cannot be reached; this model chooses among 1, 2, 4";
    assert.throws(() => table.within({ width: 3 }), { code: "ERR_USAGE", message });
  });

  it("takes one number of one kind", () => {
    for (const budget of [{}, { madds: 20, ms: 5 }, { flops: 3 }, { ms: "5" }, { width: null }, null, 12e6]) {
      assert.throws(() => table.within(budget as never), {
        code: "ERR_USAGE",
        message: /expected one of \{ madds \}, \{ ms \}, \{ width \}/,
      });
    }
  });

  it("gives the same point each time: a change makes nothing", () => {
    for (const budget of [{ madds: 25 }, { ms: 5 }, { width: 4 }]) {
      assert.equal(table.within(budget), table.within(budget));
    }
  });

  it("in ms asks this device once, and remembers", async () => {
    const cache = process.env.XDG_CACHE_HOME;
    process.env.XDG_CACHE_HOME = join(folder, "cache");
    try {
      const measured = await withNetwork(async (network) => {
        const images = stripes(64);
        const [cheap] = await network.classify(images, { budget: { ms: 1e9 } });
        assert.ok(cheap);
        const reach = await network.classify(images, { budget: { ms: 1e-9 } }).catch((error) => error);
        assert.equal(reach.code, "ERR_USAGE");
        return /takes ([0-9.e-]+) to ([0-9.e-]+) ms here/.exec(reach.message)!.slice(1).map(Number);
      });
      assert.ok(measured[0]! > 0 && measured[0]! <= measured[1]!);
      const [file, ...others] = readdirSync(join(folder, "cache", "dsnet"));
      assert.deepEqual(others, []);
      // Another network on this device reads the same file: with false figures in it, those are what it reckons with.
      writeFileSync(join(folder, "cache", "dsnet", file!), JSON.stringify(sample.candidates.map((k) => 1000 + k)));
      await withNetwork((network) =>
        assert.rejects(network.classify(stripes(1), { budget: { ms: 999 } }), {
          message: "budget: 999 ms cannot be reached; this model takes 1000 to 1010 ms here",
        }),
      );
      writeFileSync(join(folder, "cache", "dsnet", file!), "[1, ");
      await withNetwork((network) => network.run(new Float32Array(28 * 28), { budget: { ms: 1e9 } }));
      assert.equal(
        JSON.parse(readFileSync(join(folder, "cache", "dsnet", file!), "utf8")).length,
        sample.candidates.length,
      );
    } finally {
      if (cache === undefined) delete process.env.XDG_CACHE_HOME;
      else process.env.XDG_CACHE_HOME = cache;
    }
  });

  it("in ms needs the routes of a newer table", () =>
    withNetwork(
      (network) =>
        assert.rejects(network.classify(stripes(1), { budget: { ms: 1e9 } }), {
          code: "ERR_USAGE",
          message: /needs a newer table.*dsnet calibrate/,
        }),
      { calibration: sample.calibration!.map(({ shares, ...rest }) => rest) },
    ));
});

describe("a network refuses", () => {
  const cases: [what: string, options: object, message: RegExp][] = [
    ["a width that is not there", { width: 6 }, /^width: expected 0 to 5, largest, smallest or dynamic, got 6$/],
    ["half a width", { width: 1.5 }, /got 1\.5/],
    ["a width of another name", { width: "huge" }, /got huge/],
    ["no labels", { topK: 0 }, /^topK: expected 1 or more, got 0$/],
    ["half a label", { topK: 1.5 }, /got 1\.5/],
    ["an option that is none", { topk: 1 }, /^options: expected topK, width, budget; there is no topk$/],
  ];
  for (const [what, options, message] of cases) {
    it(what, () =>
      withNetwork((network) => assert.rejects(network.classify(stripes(1), options), { code: "ERR_USAGE", message })),
    );
  }

  it("images that are none, by what they lack", () =>
    withNetwork(async (network) => {
      const images: [unknown, string, RegExp][] = [
        [null, "ERR_USAGE", /expected a path, the bytes/],
        [{ data: [1, 2], width: 1, height: 2 }, "ERR_USAGE", /8-bit data/],
        [{ data: new Uint8Array(10), width: 2, height: 2 }, "ERR_SHAPE", /2×2 pixels of 1, 3 or 4 channels, got 10/],
        [{ data: new Uint8Array(6), width: 1.5, height: 4 }, "ERR_SHAPE", /1\.5×4 pixels/],
        [new Uint8Array(4), "ERR_FORMAT", /expected a PNG or JPEG/],
        [join(folder, "absent.png"), "ERR_USAGE", /no file .*absent\.png/],
      ];
      for (const [image, code, message] of images) {
        await assert.rejects(network.classify([image as RawImage]), { code, message });
      }
      await assert.rejects(network.classify([...stripes(1), new Uint8Array(4)]), {
        code: "ERR_FORMAT",
        message: /^image 1: .*expected a PNG or JPEG/,
      });
      const path = join(folder, "text.png");
      writeFileSync(path, "hello");
      await assert.rejects(network.classify(path), {
        code: "ERR_FORMAT",
        message: /text\.png: .*expected a PNG or JPEG/,
      });
      for (const batch of [[1, 2], undefined, null]) {
        assert.throws(() => network.run(batch as never), { code: "ERR_USAGE", message: /expected a Float32Array/ });
      }
      assert.throws(() => network.run(new Float32Array(28 * 28), null as never), {
        code: "ERR_USAGE",
        message: /options/,
      });
      assert.throws(() => network.run(new Float32Array(28 * 28 + 1)), {
        code: "ERR_SHAPE",
        message: /n × 28 × 28 × 1/,
      });
    }));

  it("a width that was never calibrated, and a gate that could choose it", () =>
    withNetwork(
      async (network) => {
        const refusal = {
          code: "ERR_UNCALIBRATED",
          message: /^width 1 has no measured norm statistics; calibrated: 0, 5\./,
        };
        for (const width of [1, "dynamic", undefined] as const) {
          await assert.rejects(network.classify(stripes(1), width === undefined ? {} : { width }), refusal);
        }
        assert.equal((await network.classify(stripes(1), { width: "largest" })).length, 1);
      },
      { calibrated: [0, 5] },
    ));

  it("to route where there is no trained gate, and takes the widest instead when not asked", () =>
    withNetwork(
      async (network) => {
        assert.equal(network.gated, false);
        await assert.rejects(network.classify(stripes(1), { width: "dynamic" }), {
          code: "ERR_USAGE",
          message: "this model has no trained gate, so it cannot choose; give a width from 0 to 5",
        });
        await assert.rejects(network.classify(stripes(1), { budget: { madds: 1e6 } }), {
          code: "ERR_USAGE",
          message: /no trained gate/,
        });
        assert.deepEqual(
          untimed(await network.classify(stripes(1))),
          untimed(await network.classify(stripes(1), { width: 5 })),
        );
      },
      { candidates: [] },
    ));

  it("to work once disposed of, which may be done twice", async () => {
    const network = await load(bytes);
    await network.classify(stripes(1));
    network.dispose();
    network.dispose();
    await assert.rejects(network.classify(stripes(1)), {
      code: "ERR_USAGE",
      message: /was disposed of; load it again/,
    });
    assert.throws(() => network.run(new Float32Array(28 * 28)), { code: "ERR_USAGE" });
  });
});

describe("load", () => {
  it("refuses options that there are not", async () => {
    await assert.rejects(load(bytes, { precison: "bf16" } as object), {
      code: "ERR_USAGE",
      message: /expected device, threads, precision; there is no precison/,
    });
  });

  it("takes a path or bytes, also in the middle of a buffer", async () => {
    const path = join(folder, "m.safetensors");
    writeFileSync(path, bytes);
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    const results: object[] = [];
    for (const model of [path, bytes, shifted.subarray(3)]) {
      const network = await load(model);
      results.push(untimed(await network.classify(stripes(2))));
      network.dispose();
    }
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
  });

  it("refuses what is no model, a newer version, and tensors that do not fit", async () => {
    const { metadata, tensors } = readSafetensors(bytes);
    const newer = writeSafetensors(tensors, new Map([...metadata, ["format_version", "2"]]));
    await assert.rejects(load(newer), { code: "ERR_FORMAT", message: /version 2, this dsnet reads up to 1: update/ });
    tensors.delete("classifier.bias");
    await assert.rejects(load(writeSafetensors(tensors, metadata)), {
      code: "ERR_FORMAT",
      message: /missing: classifier\.bias/,
    });
    await assert.rejects(load(new Uint8Array(3)), { code: "ERR_FORMAT" });
    await assert.rejects(load(join(folder, "absent")), { code: "ERR_USAGE", message: /no file .*absent/ });
    await assert.rejects(load(undefined as never), {
      code: "ERR_USAGE",
      message: /path or name of a model, or its bytes/,
    });
    await assert.rejects(load(bytes, { device: "tpu" as never }), { code: "ERR_USAGE" });
  });

  it("says what it runs on, and what there is to load is listed", async () => {
    const network = await load(bytes, { device: "wasm", threads: 1 });
    assert.deepEqual([network.device.name, network.device.isa, network.device.threads], ["wasm", "simd128", 1]);
    assert.deepEqual([network.model.name, network.widths, network.gated], ["ds_mbnet_28", 6, true]);
    assert.ok(listModels().some(({ name }) => name === "ds_mbnet_28"));
    network.dispose();
  });
});

describe("memory", () => {
  it("stays exactly as it is over 200 changes of width, budget and batch", () =>
    withNetwork(async (network) => {
      const images = stripes(33);
      const budgets = sample.calibration!.map(({ madds }) => Math.ceil(madds));
      await network.classify(images); // both plans are made at their first call
      await network.classify(images[0]!);
      const before = network.memory();
      for (let i = 0; i < 200; i++) {
        const some = i % 20 === 0 ? images : images[i % 33]!;
        if (i % 2 === 0)
          await network.classify(some, { width: (["largest", 0, 3, "dynamic", 1] as const)[(i / 2) % 5]! });
        else if (i % 4 === 1) await network.classify(some, { budget: { madds: budgets[i % budgets.length]! } });
        else await network.classify(some, { budget: { width: i % network.widths } });
      }
      assert.equal(network.memory(), before);
    }));

  it("that does not suffice for a large batch is an error that leaves the network as it was", async () => {
    const backend = await openBackend({ threads: 1 });
    const network = new NetworkClass(backend, sample);
    const batch = (n: number) => new Float32Array(n * 28 * 28).map((_, i) => Math.sin(i));
    const [before, used] = [network.run(batch(2)), network.memory()];
    const fill: number[] = [];
    for (let size = 2 ** 32; size >= 64; ) {
      try {
        fill.push(backend.arena.alloc(size, true));
      } catch {
        size /= 2;
      }
    }
    const full = network.memory();
    assert.throws(() => network.run(batch(32)), { code: "ERR_MEMORY" });
    assert.ok(network.memory() < full, "the smaller batch's plan is gone, and nothing of the larger one is left");
    assert.deepEqual(network.run(batch(2)), before);
    assert.equal(network.memory(), full);
    for (const at of fill) backend.arena.free(at);
    assert.equal(network.memory(), used);
    network.run(batch(32));
    network.dispose();
  });

  /** Threads, or KiB of this process. */
  const status = (key: "VmRSS" | "VmSize" | "Threads") =>
    Number(/\d+/.exec(readFileSync("/proc/self/status", "utf8").split(`${key}:`)[1]!)![0]);
  const skip =
    process.platform !== "linux"
      ? "needs /proc"
      : nativeIsas().length === 0 && "no native addon: a garbage collector frees WASM's memory when it likes";
  it("is given back at disposal, its addresses when the garbage collector comes, and no thread is left", {
    skip,
  }, async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const settle = async () => {
      collect();
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    };
    const cycle = async () => {
      const network = await load(bytes, { device: "native", threads: 3 });
      await network.classify(stripes(2));
      network.dispose();
    };
    await cycle();
    await settle();
    const [resident, space, threads] = [status("VmRSS"), status("VmSize"), status("Threads")];
    for (let i = 0; i < 20; i++) await cycle();
    assert.ok(status("VmRSS") - resident < 100_000, `${status("VmRSS") - resident} KiB more`); // 20 networks have twice that
    assert.ok(status("Threads") <= threads, `${status("Threads")} threads, ${threads} before`);
    await settle();
    assert.ok(status("VmSize") - space < 2 ** 22, `${status("VmSize") - space} KiB more`); // one arena has 4 GiB
  });

  it("of WASM can be had again and again, always as much of it", async () => {
    const used = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const threads = i % 2 === 0 ? 1 : 2;
      const network = await load(bytes, { device: "wasm", threads });
      assert.equal((await network.classify(stripes(1))).length, 1);
      used.add(network.memory());
      network.dispose();
    }
    assert.equal(used.size, 2); // threads have stacks
  });
});
