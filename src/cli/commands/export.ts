/** `dsnet export`: a model to hand on, whole, or one width or route of it: a model file, its weights in fp16 if asked for, or ONNX. */
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { describeSpec } from "../../cost/describe.js";
import { UsageError } from "../../errors.js";
import { withHalfWeights, withoutTraining } from "../../io/compact.js";
import { writeFileAtomic } from "../../io/files-node.js";
import { encodeModel, type ModelFile } from "../../io/model-file.js";
import { modelPath, readModelFile } from "../../io/model-file-node.js";
import { sliceModel } from "../../models/slice.js";
import type { ModelSpec } from "../../models/spec.js";
import { encodeOnnx } from "../../onnx/encode-node.js";
import { onnxModel } from "../../onnx/export.js";
import { type FixedWidth, fixedWidth, jsonOption, modelHelp } from "../options.js";
import { printable } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatBytes, formatCount, formatMadds } from "../units.js";

interface Options {
  width?: FixedWidth;
  onnx?: boolean;
  fp16?: boolean;
  output: string;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<model>", modelHelp())
    .option(
      "--width <k>",
      "which width: its number, largest or smallest; or one for each gate: 2,0,3; default: all, with what chooses",
      fixedWidth,
    )
    .addOption(new Option("--onnx", "write ONNX").conflicts("fp16"))
    .option("--fp16", "store the weights of convolutions and linear layers in fp16; all is still computed in fp32")
    .requiredOption("-o, --output <file>", "file to write")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The whole model is written without what only training needs. With --width the file holds what that width uses and no
gate, and gives the same logits, bit for bit. --fp16 rounds, so logits change in their fourth digit: see with
\`dsnet val\` what that does to the figures.

An ONNX file takes \`input\`, (N, channels, height, width), normalised, and gives \`logits\`. Where a width is chosen N is 1 and
\`route\` tells which. With a gate every width has its own copy of the weights behind it: the file is several times the model's
size. Of a cascade it has the slimmest width and the one that goes on.

Examples:
  dsnet export runs/demo/best.safetensors --fp16 -o digits.safetensors
  dsnet export runs/demo/best.safetensors --width 2 -o small.safetensors
  dsnet export runs/resnet/best.safetensors --width 3,0,1,2,1,0,3 -o route.safetensors
  dsnet export runs/demo/best.safetensors --onnx --width 2 -o small.onnx
  dsnet export runs/demo/best.safetensors --onnx -o dynamic.onnx`,
    )
    .action(async (file: string, { width, onnx = false, fp16 = false, output, json }: Options) => {
      const terminal = new Terminal({ json });
      if (resolve(modelPath(file)) === resolve(output))
        throw new UsageError("--output: expected another file than the model");
      const whole = await readModelFile(file);
      const full = width === undefined ? withoutTraining(whole) : sliceModel(whole, width === "smallest" ? 0 : width);
      const model = fp16 ? withHalfWeights(full) : full;
      const chunks = onnx ? encodeOnnx(onnxModel(model)) : [encodeModel(model)];
      await writeFileAtomic(output, chunks);
      const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      const widths = widthsOf(model);
      const { name } = model.model;
      terminal.emit({ file, model: name, ...(widths.length === 1 ? widths[0] : { widths }), bytes, output });
      const lines: [string, string][] = [
        ["model", name],
        ["parameters", range(widths.map(({ parameters }) => formatCount(parameters)))],
        ["MAdds", range(widths.map(({ madds }) => formatMadds(madds)))],
        ["wrote", `${output}, ${formatBytes(bytes)}`],
      ];
      terminal.print(lines.map(([title, text]) => `${title.padEnd(12)}${printable(text)}`).join("\n"));
    });
}

/** Costs of the widths that the model runs at, cheapest first. */
function widthsOf({ model, candidates }: ModelFile): { parameters: number; madds: number }[] {
  const { widths } = describeSpec(model.name, model.spec as ModelSpec);
  const used = widths.filter(({ width }) =>
    candidates.length > 0 ? candidates.includes(width as number) : width !== "largest",
  );
  return used.map(({ parameters, madds }) => ({ parameters, madds }));
}

function range(texts: readonly string[]): string {
  return texts.length === 1 ? texts[0]! : `${texts[0]} to ${texts[texts.length - 1]}`;
}
