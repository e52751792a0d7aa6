/** The end of a run: the budget table, the honest evaluation on the validation images, the model file and the report. */
import { join } from "node:path";
import { encode as encodePng } from "fast-png";
import { madds } from "../cost/madds.js";
import type { Dataset } from "../data/dataset.js";
import { benchmark } from "../evaluate/benchmark.js";
import { measureCalibration, routingWithin, type Tables } from "../evaluate/calibrate.js";
import type { Evaluation } from "../evaluate/evaluate.js";
import type { Measured } from "../evaluate/measure.js";
import { evaluateModel } from "../evaluate/model.js";
import { writeFileAtomic } from "../io/files-node.js";
import type { ModelFile, Routing } from "../io/model-file.js";
import { type Example, type ReportData, renderReport } from "../report/report.js";
import { modelFile } from "./checkpoint.js";
import { spending } from "./defaults.js";
import { type Progress, toState } from "./progress.js";
import { calibratedSlots } from "./recalibrate.js";
import type { Session } from "./session-node.js";

export interface Finished {
  evaluation: Evaluation;
  report: string;
  model: string;
}

/** Samples of each row of the report's time table. */
const ROUNDS = 20;

/** Examples of each kind in the report. */
const SHEET = 24;

/** `lambda`: with which the gate is to choose; null where none was trained. */
export async function finish(session: Session, progress: Progress, lambda: number | null): Promise<Finished> {
  const { config, net, learner, data, folder, about, gated } = session;
  const choice: Choice = lambda === null ? {} : await choiceOf(session, lambda);
  const { evaluation: results, measured } = await evaluateSession(session, choice);
  await folder.save(
    "best",
    modelFile(learner, about, {
      training: toState(progress),
      candidates: gated ? [...net.gates[0]!.candidates] : [],
      calibrated: calibratedSlots(net, config.compat),
      results,
      ...choice,
    }),
  );
  const report = join(folder.path, "report.html");
  const examples = gated ? await exampleSheet(measured, data.val.dataset, about.classes) : undefined;
  const time = benchmark(session.backend, net, learner.student, {
    rounds: ROUNDS,
    dynamic: gated,
    model: choice,
    onProgress: (done, total) => session.emit({ type: "phase", name: "benchmark", done, total }),
  });
  const page = renderReport({
    title: `dsnet: ${about.model.name} on ${config.data}`,
    facts: [
      ["Model", about.model.name],
      ["Data", config.data],
      ["Seed", String(config.seed)],
      ["Kernel build", session.backend.build],
      ["Threads", String(session.backend.threads)],
      ["Finished", `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`],
      ["Took", took(folder.seconds)],
    ],
    config: { ...config },
    epochs: (await folder.epochs()).map(reportEpoch),
    evaluation: results,
    benchmark: time,
    ...(examples === undefined ? {} : { examples }),
  } satisfies ReportData);
  await writeFileAtomic(report, new TextEncoder().encode(page));
  return { evaluation: results, report, model: join(folder.path, "best.safetensors") };
}

function took(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A row of results.csv as the report wants it. */
function reportEpoch(row: Record<string, string>): ReportData["epochs"][number] {
  const numbers = (prefix: string) =>
    Object.fromEntries(
      Object.entries(row)
        .filter(([key, value]) => key.startsWith(prefix) && value !== "")
        .map(([key, value]) => [key.slice(prefix.length), Number(value)]),
    );
  const stage = row.stage === "gate" ? "gate" : "supernet";
  return { stage, epoch: Number(row.epoch), loss: numbers("loss_"), accuracy: numbers("top1_") };
}

type Choice = Tables & Pick<ModelFile, "routing">;

/**
 * How the model is to choose, and both tables, from the held-out images. They taught the gate, whose table therefore promises a
 * little too much; the cascade, which is not trained, has never seen them.
 */
async function choiceOf(session: Session, lambda: number): Promise<Choice> {
  const { backend, config, net, learner, data } = session;
  const { heldOut } = data;
  const trained: Routing = { by: "gate", lambda };
  const { calibration, cascades } = await measureCalibration(backend, net, learner.student, heldOut.inOrder(), {
    batch: heldOut.batchSize,
    routing: trained,
  });
  // A gate that learnt under noise chooses without: what keeps to its target only the table tells.
  const { method, target_madds: target } = config.gate;
  const gate = method === "gumbel" && target !== null ? routingWithin({ calibration }, "gate", target)! : trained;
  // From images that the weights have fitted no threshold can be told: nearly all of them look sure.
  if (config.gate.routing === "gate") return { routing: gate, calibration, ...(data.unseen && { cascades }) };
  const widest = madds(net, net.gates[0]!.candidates.at(-1)!, true);
  const routing = routingWithin({ cascades }, "cascade", spending(widest, config.gate))!;
  return { routing, calibration, cascades };
}

function evaluateSession(session: Session, choice: Choice): ReturnType<typeof evaluateModel> {
  const { backend, net, learner, data, about, config } = session;
  const total = data.val.dataset.length;
  return evaluateModel(backend, net, learner.student, data.val.inOrder(), {
    batch: data.val.batchSize,
    classNames: about.classes,
    choice,
    largest: !net.largestIsNumbered && config.compat !== "published",
    onProgress: (done) => session.emit({ type: "phase", name: "validate", done, total }),
  });
}

/** The images found easiest and hardest by what chooses the width. */
async function exampleSheet(
  measured: Measured,
  dataset: Dataset,
  classes: readonly string[],
): Promise<{ easiest: Example[]; hardest: Example[] }> {
  const { dynamic, labels, indices } = measured;
  const scores = dynamic!.easyScore;
  const order = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const example = async (i: number): Promise<Example> => {
    const { data, width, height, channels } = await dataset.pixels(indices[i]!);
    const png = encodePng({ width, height, channels, data: new Uint8Array(data), depth: 8 });
    // With several gates the last choice stands for the image.
    const gates = dynamic!.choice.length / labels.length;
    const choice = dynamic!.choice[(i + 1) * gates - 1]!;
    return {
      dataUrl: `data:image/png;base64,${Buffer.from(png).toString("base64")}`,
      label: classes[labels[i]!]!,
      predicted: classes[dynamic!.predicted[i]!] ?? "none: NaN",
      width: choice,
    };
  };
  return {
    easiest: await Promise.all(order.slice(0, SHEET).map(example)),
    hardest: await Promise.all(order.slice(-SHEET).reverse().map(example)),
  };
}
