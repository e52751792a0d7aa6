/**
 * Writes the card of every model in models/ anew, from the file and from what is said here of its data.
 *
 *     npm run build && node scripts/model-card.mjs
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { evenly } from "../dist/src/cli/table.js";
import { formatBytes, formatMadds } from "../dist/src/cli/units.js";
import { HONEST_COLUMNS, honestCells, sentences, widestMadds } from "../dist/src/evaluate/table.js";
import { decodeModel, routingOf } from "../dist/src/io/model-file.js";
import { shippedModels } from "../dist/src/io/model-file-node.js";

/** What a model's file cannot tell of the images that it learnt from. */
export const DATA = {
  cifar10: {
    name: "CIFAR-10",
    path: "../shared/data/cifar10-jpeg.tar.gz",
    about:
      "CIFAR-10 (Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009): photos of 32×32 pixels. **Every image " +
      "was re-encoded as JPEG**, which loses detail: 50,000 to train with and 5,000 to validate, 500 of each class. Figures are of these " +
      "images, so they are not to be compared digit by digit with those published for the original.",
    limits:
      "It knows photos of 32×32 pixels that one of the ten things fills. A larger photo is shrunk to that, and what shows something " +
      "else gets one of the ten labels all the same. The images come from the Web before 2009, with its bias; they are a " +
      "subset of Tiny Images, which its makers withdrew in 2020 for labels that CIFAR-10 does not have.",
    licence:
      "The authors of CIFAR-10 name no licence for its images and ask to cite the report above. None of them is in the file.",
  },
  fashion: {
    name: "Fashion-MNIST",
    // Its files number the classes.
    labels: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    path: "../shared/data/fashion-mnist",
    about:
      "Fashion-MNIST (Han Xiao, Kashif Rasul, Roland Vollgraf, 2017): articles of clothing in grey, 28×28 pixels, light on black; 60,000 " +
      "to train with and 10,000 to validate, 1,000 of each class.",
    limits:
      "It knows one article, centred, light on a black ground, as a shop would show it. A photo of a person, a dark article on a white " +
      "ground or anything else gets one of the ten labels all the same.",
    licence: "Fashion-MNIST is © 2017 Zalando SE, under the MIT licence. None of its images is in the file.",
  },
};

/** Rows of the budget table that are shown; the file has all. */
const BUDGETS = 10;

/** The card of models/`name`.safetensors as Markdown. `bytes`: that file. */
export function modelCard(name, bytes) {
  const file = decodeModel(bytes, name);
  const { model, classes, preprocessing, results, kernelBuild, tensors } = file;
  const { by } = routingOf(file);
  const points = by === "gate" ? file.calibration : file.cascades;
  const { name: data, path, about, limits, licence } = DATA[name];
  const { height, width, channels, mean, std, interpolation, cropPct } = preprocessing;
  const widths = results.rows.filter(({ kind }) => kind === "width");
  const [size, colour] = [`${height}×${width} pixels`, channels === 1 ? "grey" : "RGB"];
  const stored = [...tensors.values()].some(({ dtype }) => dtype === "F16") ? "fp16" : "fp32";
  const list = (values) => values.map((value) => value.toFixed(4)).join(", ");
  const paragraphs = [
    `# ${name}`,
    [
      `A \`${model.name}\` that learnt ${data}: it tells ${classes.length} classes apart, in images of ${size}, ${colour}.`,
      `It has ${widths.length} widths, of ${formatMadds(widths[0].madds)} to ${formatMadds(widths.at(-1).madds)} multiply-adds (MAdds);`,
      by === "gate"
        ? "for each image its gate chooses one."
        : "for each image the slimmest answers, and a wider one goes on where it is not confident (`dsnet calibrate --routing gate`: as its gate chooses).",
      `\`${name}.safetensors\` has ${formatBytes(bytes.length)}, its weights in ${stored}; docs/FORMAT.md says what is in it.`,
      "This page is made from it, by `scripts/model-card.mjs`.",
    ].join(" "),
    ["```", `dsnet predict IMAGE --model ${name}`, `dsnet val ${name} --data ${path}`, "```"].join("\n"),
    "## Data",
    about,
    "## Labels",
    `In the order of the logits: ${classes.join(", ")}.`,
    "## Preprocessing",
    [
      `To ${colour}; an image of another size is resized (${interpolation}) until it covers`,
      `${Math.floor(height / cropPct)}×${Math.floor(width / cropPct)} pixels, and the ${size} in its centre are cut out.`,
      `Pixels of 0 to 1, minus ${list(mean)}, divided by ${list(std)}.`,
    ].join(" "),
    "## Figures",
    `Measured with the weights as they are stored, which kernel build ${kernelBuild ?? "unknown"} computed.`,
    honestTable(results),
    sentences(results)
      .map((sentence) => `- ${sentence}`)
      .join("\n"),
    "## Budgets",
    [
      `What the ${by} costs and achieves on held-out training images, for \`--budget-madds\`;`,
      `${Math.min(BUDGETS, points.length)} of the file's ${points.length} settings.`,
    ].join(" "),
    budgetTable(points, widestMadds(results)),
    "## Limits",
    limits,
    [
      "Scores are the softmax of the logits; they were not fitted to how often the model is right.",
      "It was made to show a method: nothing that matters should rest on it.",
    ].join(" "),
    "## Licence",
    `The weights are under the project's licence, Apache-2.0. ${licence}`,
  ];
  return `${paragraphs.join("\n\n")}\n`;
}

function markdown(titles, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const rule = titles.map(([, align]) => (align === "right" ? "---:" : "---"));
  return [line(titles.map(([title]) => title)), line(rule), ...rows.map(line)].join("\n");
}

function honestTable(results) {
  const titles = HONEST_COLUMNS.map((title, i) => [title, i > 0 && i < HONEST_COLUMNS.length - 1 ? "right" : "left"]);
  return markdown(titles, honestCells(results));
}

function budgetTable(points, widest) {
  const titles = [
    ["MAdds", "right"],
    ["% of widest", "right"],
    ["top-1 %", "right"],
  ];
  const shown = evenly(points, BUDGETS);
  const rows = shown.map(({ madds, accuracy }) => [
    formatMadds(madds),
    percent(madds / widest, 1),
    percent(accuracy, 2),
  ]);
  return markdown(titles, rows);
}

const percent = (share, digits) => (100 * share).toFixed(digits);

/** Where a model of the package and its card lie. */
export const shippedFile = (name, ending) => fileURLToPath(new URL(`../models/${name}.${ending}`, import.meta.url));

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const name of shippedModels()) {
    writeFileSync(shippedFile(name, "md"), modelCard(name, readFileSync(shippedFile(name, "safetensors"))));
    console.log(`wrote ${shippedFile(name, "md")}`);
  }
}
