/** `dsnet export`: one width of a model, or one route through its gates → a model file of its own. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { describeSpec } from "../../cost/describe.js";
import { UsageError } from "../../errors.js";
import { writeFileAtomic } from "../../io/files-node.js";
import { encodeModel } from "../../io/model-file.js";
import { readModelFile } from "../../io/model-file-node.js";
import { sliceModel } from "../../models/slice.js";
import type { ModelSpec } from "../../models/spec.js";
import { type FixedWidth, fixedWidth, jsonOption } from "../options.js";
import { printable } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatBytes, formatCount, formatMadds } from "../units.js";

interface Options {
  width: FixedWidth;
  output: string;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<model>", "model file")
    .requiredOption(
      "--width <k>",
      "which width: its number, largest or smallest; or one for each gate: 2,0,3",
      fixedWidth,
    )
    .requiredOption("-o, --output <file>", "model file to write")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The file holds what that width uses and no gate; it gives the same logits, bit for bit.

Examples:
  dsnet export runs/demo/best.safetensors --width 2 -o small.safetensors
  dsnet export runs/resnet/best.safetensors --width 3,0,1,2,1,0,3 -o route.safetensors`,
    )
    .action(async (file: string, { width, output, json }: Options) => {
      const terminal = new Terminal({ json });
      if (resolve(file) === resolve(output)) throw new UsageError("--output: expected another file than the model");
      const slice = sliceModel(await readModelFile(file), width === "smallest" ? 0 : width);
      const bytes = encodeModel(slice);
      await writeFileAtomic(output, bytes);
      const { name, spec } = slice.model;
      const { parameters, madds } = describeSpec(name, spec as ModelSpec).widths[0]!;
      terminal.emit({ file, model: name, parameters, madds, bytes: bytes.length, output });
      const lines: [string, string][] = [
        ["model", name],
        ["parameters", formatCount(parameters)],
        ["MAdds", formatMadds(madds)],
        ["wrote", `${output}, ${formatBytes(bytes.length)}`],
      ];
      terminal.print(lines.map(([title, text]) => `${title.padEnd(12)}${printable(text)}`).join("\n"));
    });
}
