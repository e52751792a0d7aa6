/** `dsnet inspect`: what a model consists of and what each width costs. */
import { type Command, InvalidArgumentError } from "commander";
import { UsageError } from "../../errors.js";
import { describeModel, listModels, type ModelDescription, type ModelSummary, type Routing } from "../../index.js";
import { jsonOption, kindOfModel, modelHelp } from "../options.js";
import { printable, table } from "../table.js";
import { Terminal } from "../terminal.js";
import { formatCount, formatMadds } from "../units.js";

interface Options {
  list?: boolean;
  /** True: given without a width. */
  layers?: number | "largest" | true;
  json?: boolean;
}

const right = (title: string) => ({ title, align: "right" as const });
const left = (title: string) => ({ title });

export function define(command: Command): void {
  command
    .argument("[model]", `${modelHelp()}; or a name in the registry`)
    .option("--list", "list the registry")
    .option("--layers [width]", "every layer at a width: its number or largest (default)", layersWidth)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  dsnet inspect --list
  dsnet inspect ds_mbnet_32
  dsnet inspect runs/demo/best.safetensors --layers 3`,
    )
    .action(async (model: string | undefined, { list, layers, json }: Options) => {
      const terminal = new Terminal({ json });
      const heading = (text: string) => terminal.paint("bold", text);
      if (list ? model !== undefined : model === undefined) {
        throw new UsageError("expected either a model or --list: dsnet inspect ds_mbnet_32");
      }
      if (model === undefined) {
        const models = listModels();
        terminal.emit(models);
        terminal.print(listTable(models, heading));
        return;
      }
      kindOfModel(model); // neither: it says what it expected
      const description = await describeModel(
        model,
        layers === undefined ? {} : { layersAt: layers === true ? "largest" : layers },
      );
      terminal.emit(description);
      terminal.print(descriptionText(description, heading));
    });
}

function layersWidth(text: string): number | "largest" {
  if (text === "largest") return text;
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected a width's number or largest.");
}

function routingText(routing: Routing): string {
  return routing.by === "gate"
    ? `Width by the gate: the best score less ${Number(routing.lambda.toPrecision(3))} × MAdds / widest MAdds.`
    : `Width by a cascade: the slimmest answers; below confidence ${routing.threshold.toFixed(3)} width ${routing.wider} goes on.`;
}

type Heading = (text: string) => string;

export function listTable(models: readonly ModelSummary[], heading?: Heading): string {
  return table(
    [left("name"), right("input"), right("channels"), right("widths"), left("description")],
    models.map(({ name, inputSize, channels, widths, description }) => [
      name,
      `${inputSize}×${inputSize}`,
      `${channels}`,
      `${widths}`,
      description,
    ]),
    heading,
  );
}

export function descriptionText(model: ModelDescription, heading?: Heading): string {
  const { name, inputSize, channels, classes, stages, widths, routing, layers } = model;
  const parts = [
    `${printable(name)}: ${inputSize}×${inputSize}×${channels} → ${classes} classes`,
    table(
      [left("stage"), left("block"), right("repeat"), right("stride"), right("output"), left("channels by width")],
      stages.map((stage) => [
        stage.gates === 0 ? stage.name : `${stage.name} (${stage.gates === 1 ? "gate" : `${stage.gates} gates`})`,
        stage.block,
        `${stage.repeat}`,
        `${stage.stride}`,
        `${stage.size}×${stage.size}`,
        stage.widths.join(" "),
      ]),
      heading,
    ),
    table(
      [right("width"), right("parameters"), right("MAdds"), right("")],
      widths.map(({ width, parameters, madds }) => [
        `${width}`,
        formatCount(parameters),
        formatCount(madds),
        formatMadds(madds),
      ]),
      heading,
    ),
  ];
  if (routing) parts.push(routingText(routing));
  if (layers) {
    parts.push(
      table(
        [left("layer"), left("kind"), left("output"), right("MAdds")],
        layers.map((layer) => [layer.name, layer.kind, layer.shape.join("×"), formatCount(layer.madds)]),
        heading,
      ),
    );
  }
  return parts.join("\n\n");
}
