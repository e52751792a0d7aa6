/** `dsnet benchmark`: time of every width and of the gate, against what MAdds promise and what this core can do. */
import { cpus } from "node:os";
import type { Command } from "commander";
import type { Precision } from "../../backend/backend.js";
import { openBackend } from "../../backend/open.js";
import { type Benchmark, benchmark } from "../../evaluate/benchmark.js";
import { writeFileAtomic } from "../../io/files-node.js";
import { readModelFile } from "../../io/model-file-node.js";
import { build } from "../../models/build.js";
import { networkOf } from "../../models/file.js";
import { modelSpec } from "../../models/registry.js";
import { allocSpan, initState, loadSpan } from "../../models/state.js";
import { renderBenchmark, TIME_COLUMNS, timeCells, timeSentences } from "../../report/time.js";
import {
  type Device,
  deviceOption,
  type FixedWidth,
  fixedWidth,
  jsonOption,
  kindOfModel,
  modelHelp,
  precisionOption,
  whole,
} from "../options.js";
import { table } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatCount } from "../units.js";

interface Options {
  batch: number;
  rounds: number;
  /** True: given without a width. */
  layers?: FixedWidth | true;
  output?: string;
  device: Device;
  precision: Precision;
  threads: number;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<model>", `${modelHelp()}; or a name in the registry: random weights then`)
    .option("--batch <n>", "images a call", whole(1), 1)
    .option("--rounds <n>", "samples of each row", whole(1), 50)
    .option("--layers [width]", "also every layer at a width: its number, smallest or largest (default)", fixedWidth)
    .option("-o, --output <file>", "write a page with the picture: time against MAdds")
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option("--threads <n>", "kernel threads; 0: as many as cores", whole(0), 1)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The rows take turns in every round, so that a busy moment hurts all alike. The peak is the best matrix product that
these kernels reach here on as many threads. Dynamic is the mean over the widths that the model chooses by its
table, without a table over all candidates; what chooses runs, with its choice forced.

Examples:
  dsnet benchmark ds_mbnet
  dsnet benchmark runs/demo/best.safetensors --layers 0 --rounds 200
  dsnet benchmark ds_mbnet --precision bf16
  dsnet benchmark ds_mbnet_32 --device wasm -o time.html`,
    )
    .action(async (model: string, { json, output, device, precision, threads, layers, ...options }: Options) => {
      const terminal = new Terminal({ json });
      const file = kindOfModel(model) === "file" ? await readModelFile(model) : null;
      const net = file === null ? build(modelSpec(model), precision) : networkOf(file, precision);
      const backend = await openBackend({ device, threads, precision });
      try {
        const span = file === null ? allocSpan(backend, net.layout.floats) : loadSpan(backend, net, file.tensors);
        if (file === null) initState(backend, net, span, 0);
        const result = benchmark(backend, net, span, {
          ...options,
          dynamic: net.gates.length > 0 && (file === null || file.candidates.length > 0),
          model: file ?? undefined,
          ...(layers !== undefined && { layersAt: slotOf(layers) }),
          onProgress: (done, total) => terminal.progress.update({ label: "benchmark", done, total }),
        });
        terminal.emit({ model, processor: cpus()[0]?.model, ...result });
        terminal.print(benchmarkText(result, (text) => terminal.paint("bold", text)));
        if (output !== undefined) {
          const facts: [string, string][] = [
            ["Model", model],
            ["Processor", cpus()[0]?.model ?? "unknown"],
            ["Measured", `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`],
          ];
          const html = renderBenchmark(`dsnet: time of ${model}`, facts, result);
          await writeFileAtomic(output, new TextEncoder().encode(html));
          terminal.print(`\nwrote ${output}`);
        }
      } finally {
        backend.dispose();
      }
    });
}

const slotOf = (width: FixedWidth | true) => (width === true ? "largest" : width === "smallest" ? 0 : width);

export function benchmarkText(b: Benchmark, heading?: (text: string) => string): string {
  const columns = (titles: readonly string[]) =>
    titles.map((title, i) => (i === 0 ? { title } : { title, align: "right" as const }));
  const parts = [table(columns(TIME_COLUMNS), timeCells(b), heading)];
  if (b.layers) {
    const total = b.layers.rows.reduce((sum, { ms }) => sum + ms, 0);
    parts.push(
      table(
        columns([`layer at ${b.layers.route}`, "calls", "MAdds", "µs", "% of time", "GMAC/s", "% of peak"]),
        b.layers.rows.map(({ name, calls, madds, ms, gmacs }) => [
          name,
          `${calls}`,
          formatCount(madds),
          (1000 * ms).toFixed(1),
          ((100 * ms) / total).toFixed(1),
          ...(madds > 0 ? [gmacs.toFixed(1), ((100 * gmacs) / b.peakGmacs).toFixed(1)] : ["", ""]),
        ]),
        heading,
      ),
    );
  }
  parts.push(timeSentences(b).join("\n"));
  return parts.join("\n\n");
}
