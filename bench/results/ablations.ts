/** What the ablations compare: settings of a recipe, and the runs that this takes. */
import { leaves, settingAt, typed } from "../../src/cli/schema.js";
import { madds } from "../../src/cost/madds.js";
import { build } from "../../src/models/build.js";
import { modelSpec } from "../../src/models/registry.js";
import type { TrainConfig } from "../../src/train/config.js";

export interface Ablation {
  /** Begins the names of its runs. */
  key: string;
  title: string;
  /** Whether the variants differ in stage II alone, so that they share a supernet. */
  gateOnly: boolean;
  /** The figure by which a variant is compared with the recipe. */
  judged: "mean of widths" | "dynamic - envelope";
  /** Name → settings as they are typed. What differs in none from the recipe is the recipe's own run. */
  variants: { [name: string]: { [path: string]: string } };
}

type Variants = Ablation["variants"];
const stage1 = (key: string, title: string, variants: Variants): Ablation => {
  return { key, title, gateOnly: false, judged: "mean of widths", variants };
};
const stage2 = (key: string, title: string, variants: Variants): Ablation => {
  return { key, title, gateOnly: true, judged: "dynamic - envelope", variants };
};

/** A third of the reduced recipe's widest. */
const SPENT = Math.round(madds(build(modelSpec("ds_mbnet_32")), 5, true) / 3);

/** All gates are to spend what one that learns probabilities does: a third of the widest's MAdds. */
const paperLosses = (method: TrainConfig["gate"]["method"], sgs: TrainConfig["gate"]["sgs"]) => ({
  "gate.method": method,
  "gate.sgs": sgs,
  "gate.weight_decay": "0",
  "gate.target_madds": String(SPENT),
});

export const ABLATIONS: readonly Ablation[] = [
  stage1("targets", "Targets of the narrow widths", {
    "in-place ensemble bootstrapping": { bootstrap: "ensemble" },
    "in-place bootstrapping": { bootstrap: "inplace" },
    "in-place distillation": { bootstrap: "distill" },
    "none: labels": { bootstrap: "none" },
  }),
  stage1("norm", "Norm", { "batch norm per width": { norm: "bn" }, "group norm": { norm: "gn" } }),
  stage1("attention", "Attention head", { on: { attention: "on" }, off: { attention: "off" } }),
  {
    ...stage1("place", "Place of the gate", {
      "the model's own, stage 2": { "gate.stage": "none" },
      "stage 1": { "gate.stage": "1" },
    }),
    judged: "dynamic - envelope",
  },
  stage2("learns", "What the gate learns; gate sparsification (SGS)", {
    "each width's probability of the true class": { "gate.method": "probability" },
    "the paper's losses, exact expectation, no SGS": paperLosses("expectation", "none"),
    "exact expectation, Try Best": paperLosses("expectation", "try_best"),
    "exact expectation, Give Up": paperLosses("expectation", "give_up"),
    "straight-through Gumbel, no SGS": paperLosses("gumbel", "none"),
    "straight-through Gumbel, Try Best": paperLosses("gumbel", "try_best"),
  }),
  stage2("candidates", "Candidates", {
    "all widths": { "gate.candidates": "none" },
    "four slimmest": { "gate.candidates": "0,1,2,3", "gate.target_madds": String(SPENT) },
  }),
  stage2("head", "The gate itself", {
    "one hidden layer": { "gate.hidden": "32" },
    "linear, as in the paper": { "gate.hidden": "0" },
  }),
  stage2("images", "Images that teach the gate", {
    "held out": { "gate.images": "held_out" },
    "held out and fitted": { "gate.images": "all" },
  }),
  stage2("routing", "What chooses the width", {
    "the gate": { "gate.routing": "gate" },
    "a cascade, by the slimmest width's confidence": { "gate.routing": "cascade" },
  }),
  stage2("stage2", "Stage II as a whole", {
    "the recipe's": {},
    "the paper's": {
      "gate.method": "gumbel",
      "gate.weight_decay": "0",
      "gate.sgs": "try_best",
      "gate.candidates": "0,1,2,3",
      "gate.hidden": "0",
      "gate.task_weight": "1",
      "gate.cost_weight": "0.5",
      "gate.sgs_weight": "1",
      "gate.target_madds": "none",
    },
  }),
];

/** The recipe's own run. */
export const BASE = "recipe";
/** Its stage I alone: the supernet that all ablations of stage II start from. */
export const SUPERNET = "supernet";

export interface PlannedRun {
  name: string;
  /** Settings beyond the recipe, as flags. */
  settings: { [path: string]: string };
  /** Run whose supernet it starts from, in place of a stage I of its own. */
  from?: typeof SUPERNET;
}

/** A variant's run: `norm-group-norm`, or `recipe`. */
export function runOf({ key, variants }: Ablation, variant: string, recipe: TrainConfig): string {
  const same = Object.entries(variants[variant]!).every(([path, typed]) => typedAt(recipe, path) === typed);
  return same ? BASE : `${key}-${variant}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
}

/** Every run once, a supernet before what starts from it. */
export function plannedRuns(recipe: TrainConfig): PlannedRun[] {
  const runs = new Map<string, PlannedRun>([
    [SUPERNET, { name: SUPERNET, settings: { "gate.epochs": "0" } }],
    [BASE, { name: BASE, settings: { epochs: "0" }, from: SUPERNET }],
  ]);
  for (const ablation of ABLATIONS) {
    for (const [variant, settings] of Object.entries(ablation.variants)) {
      const name = runOf(ablation, variant, recipe);
      if (runs.has(name)) continue;
      runs.set(
        name,
        ablation.gateOnly ? { name, settings: { ...settings, epochs: "0" }, from: SUPERNET } : { name, settings },
      );
    }
  }
  return [...runs.values()];
}

/** A setting as one would type it. */
function typedAt(config: TrainConfig, path: string): string {
  if (!leaves.has(path)) throw new Error(`${path} is no setting`);
  return typed(settingAt(config, path));
}
