/** What of a record depends on the machine: the time saved, one image at a time, against the arithmetic saved. */
import { Plan } from "../../src/engine/plan.js";
import { quantile } from "../../src/engine/timing.js";
import { UsageError } from "../../src/errors.js";
import { routingOf } from "../../src/io/model-file.js";
import { withLabelled } from "../../src/train/labelled-node.js";
import { type Figure, isWidth, reported } from "./record.js";

/** A command line's `--passes`. */
export function passesOf(text: string): number {
  const passes = Number(text);
  if (Number.isInteger(passes) && passes > 0) return passes;
  throw new UsageError(`--passes: expected a whole number above 0, got ${text}`);
}

/** Figures of a record's supernet: median over passes, with least and most. `figures`: what the record has of its MAdds. */
export async function timesOf(
  model: string,
  data: string,
  passes: number,
  figures: readonly Figure[],
): Promise<Figure[]> {
  const took = await times(model, data, passes);
  const rows = reported(figures);
  const dynamic = rows.find(({ what }) => what === "dynamic")!;
  const widest = rows.findLast(isWidth)!;
  const fact = (what: string, value: number, samples: number[] = []): Figure => ({
    ...{ run: "supernet", seed: dynamic.seed, images: "validation", what, madds: null, value },
    low: samples.length > 0 ? Math.min(...samples) : null,
    high: samples.length > 0 ? Math.max(...samples) : null,
    n: took.images,
  });
  const [dynamicMs, widestMs] = [quantile(took.dynamic, 0.5), quantile(took.widest, 0.5)];
  return [
    fact("ms dynamic", dynamicMs, took.dynamic),
    fact("ms widest", widestMs, took.widest),
    fact("saving in MAdds", 1 - dynamic.madds! / widest.madds!),
    fact("saving in time", 1 - dynamicMs / widestMs),
  ];
}

/** Milliseconds of an image in the data's order, as the model chooses and at the widest; passes take turns. */
async function times(
  model: string,
  data: string,
  passes: number,
): Promise<{ dynamic: number[]; widest: number[]; images: number }> {
  const options = { data, threads: 1, device: "native" } as const;
  return withLabelled(model, options, async ({ file, net, backend, span, loader }) => {
    const routing = routingOf(file);
    const widest = net.widths - 1;
    const plan = new Plan(backend, net, span, { batch: 1, slots: [widest], dynamic: true });
    const pixels: Float32Array[] = [];
    for await (const { images, size } of loader.inOrder()) {
      const floats = images.length / size;
      for (let i = 0; i < size; i++) pixels.push(images.slice(i * floats, (i + 1) * floats));
    }
    const pass = (run: () => void) => {
      let ms = 0;
      for (const image of pixels) {
        backend.f32.set(image, plan.input / 4);
        const began = performance.now();
        run();
        ms += performance.now() - began;
      }
      return ms / pixels.length;
    };
    const found = { dynamic: [] as number[], widest: [] as number[], images: pixels.length };
    for (let i = 0; i <= passes; i++) {
      const ms = { dynamic: pass(() => plan.runRouted(1, routing)), widest: pass(() => plan.run(1, widest)) };
      if (i === 0) continue; // warms up
      found.dynamic.push(ms.dynamic);
      found.widest.push(ms.widest);
    }
    plan.dispose();
    return found;
  });
}
