/**
 * Model file → ONNX. Input `input`: images (N, C, H, W), normalised; output `logits`: (N, classes).
 *
 * One width: any N. Dynamic: N = 1 and a second output `route`, the width that each gate chose or that a cascade ended at. ONNX has no convolution of
 * a width that is known at run time alone. So behind a gate there is an `If` over whole segments, one for each width to choose
 * (for several gates, one for each pair of what may come and what is chosen), with copies of the weights: the file grows with
 * their number. A cascade has two: the slimmest, which runs always, and in an `If` the one that goes on.
 */
import { costBias } from "../cost/bias.js";
import { gateCosts } from "../cost/madds.js";
import { UsageError } from "../errors.js";
import { type ModelFile, routingOf, selectTensors } from "../io/model-file.js";
import { cutAtGates, type Supernet, walkNetwork, walkToGate } from "../models/build.js";
import { checkCalibrated, networkOf } from "../models/file.js";
import { sliceModel } from "../models/slice.js";
import { checkParameters } from "../models/state.js";
import { passGate, type Step, startWalk, type Walk } from "../nn/blocks.js";
import { type Activations, OnnxExec } from "./emit.js";
import { Graph, newFile, type Value } from "./graph.js";
import { Weights } from "./weights.js";

export interface OnnxModel {
  readonly name: string;
  readonly graph: Graph;
  readonly inputs: readonly Value[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * A model with its gates; one without, of one width, as that. UsageError where several widths have no trained gate to choose,
 * or where the weights are more than an ONNX file can hold; UncalibratedError where a width was never measured, FormatError
 * where the file's parts do not fit each other.
 */
export function onnxModel(file: ModelFile): OnnxModel {
  const { height: h, width: w, channels: c } = file.preprocessing;
  const graph = new Graph(newFile());
  const image = { name: graph.unique("input"), c, h, w };
  const net = networkOf(file);
  const gated = file.candidates.length > 0;
  if (!gated && net.widths > 1) {
    throw new UsageError(
      `this ${file.model.name} has ${net.widths} widths and no trained gate to choose: give one with --width`,
    );
  }
  const { logits, route } = gated ? routed(file, net, graph, image) : single(sliceModel(file, 0), graph, image);
  const n = gated ? 1 : "batch";
  const output = graph.node("Identity", "logits", [logits.name]);
  graph.outputs = [{ name: output, type: "float32", dims: [n, logits.c] }, ...route];
  return {
    name: file.model.name,
    graph,
    inputs: [{ name: image.name, type: "float32", dims: [n, c, h, w] }],
    metadata: metadataOf(file),
  };
}

interface Outputs {
  readonly logits: Activations;
  /** The widths chosen, where there are gates. */
  readonly route: readonly Value[];
}

function single(file: ModelFile, graph: Graph, image: Activations): Outputs {
  const exec = new OnnxExec(graph, new Weights(graph, file.tensors));
  return { logits: walkNetwork(networkOf(file).steps, exec, image, 0), route: [] };
}

/** Where a walk stands at a gate or, with no scores, at the end. */
interface Arrival {
  readonly walk: Walk<Activations>;
  readonly scores: Activations | null;
}

type WalkSegment = (steps: readonly Step[], graph: Graph, from: Walk<Activations>) => Arrival;

/** The whole network for one image, with the choices in it. */
function routed(file: ModelFile, net: Supernet, graph: Graph, image: Activations): Outputs {
  for (const slot of widthsOf(file)) checkCalibrated(slot, file.calibrated);
  const tensors = selectTensors(file.tensors, "parameters");
  checkParameters(net, tensors);
  // Weights of a width lie in its branch: onnxruntime prepares only what is in the graph that reads it, which makes 1.5 times
  // the speed. With several gates many ways use the same; those copies would be too many.
  const shared = net.gates.length > 1 ? new Weights(graph, tensors) : null;
  const walkSegment: WalkSegment = (steps, graph, from) => {
    const exec = new OnnxExec(graph, shared ?? new Weights(graph, tensors));
    const walk = { ...from, reduced: null };
    const at = walkToGate(steps, exec, walk);
    return { walk: { ...walk, at }, scores: exec.scores };
  };
  const routing = routingOf(file);
  return routing.by === "gate"
    ? gated(net, graph, image, walkSegment, routing.lambda)
    : cascaded(net, graph, image, walkSegment, routing);
}

/** The slimmest candidate's logits, or those of a wider one that goes on from the gate where their softmax is too flat. */
function cascaded(
  net: Supernet,
  graph: Graph,
  image: Activations,
  walkSegment: WalkSegment,
  { wider, threshold }: { wider: number; threshold: number },
): Outputs {
  const [head, tail] = cutAtGates(net.steps);
  const gate = net.gates[0]!;
  const slimmest = gate.candidates[0]!;
  const { walk } = walkSegment(head!, graph, startWalk(image, 0));
  const logitsAt = (slot: number, graph: Graph) =>
    walkSegment(tail!, graph, { ...walk, at: passGate(walk.at, gate, slot) }).walk.x;
  const slim = logitsAt(slimmest, graph);
  const probabilities = graph.node("Softmax", "cascade.probabilities", [slim.name], { axis: 1 });
  const confidence = graph.node("ReduceMax", "cascade.confidence", [probabilities], { axes: [1], keepdims: 0 });
  const bound = graph.constant("cascade.threshold", [1], Float32Array.of(threshold));
  const isUnsure = graph.node("Less", "cascade.unsure", [confidence, bound]);
  const [on, stays] = [graph.integers("cascade.on", [1]), graph.integers("cascade.stays", [0])];
  const way = graph.node("Where", "cascade.way", [isUnsure, on, stays]);
  const [logits] = graph.choose(way, 2, (i, branch) => {
    const x =
      i === 1 ? logitsAt(wider, branch) : { ...slim, name: branch.node("Identity", "cascade.slim", [slim.name]) };
    return [{ name: x.name, type: "float32", dims: [1, x.c] }];
  });
  const route = graph.node("Gather", "route", [graph.integers("cascade.widths", [slimmest, wider]), way]);
  return { logits: { ...slim, name: logits!.name }, route: [{ name: route, type: "int64", dims: [1] }] };
}

function gated(net: Supernet, graph: Graph, image: Activations, walkSegment: WalkSegment, lambda: number): Outputs {
  const [head, ...segments] = cutAtGates(net.steps);
  const costs = gateCosts(net);
  const routes: string[] = [];
  // What may come to the next gate; for each way through the last one, which of them it leads to.
  let arrivals = [walkSegment(head!, graph, startWalk(image, 0))];
  let last: { way: string; leadsTo: number[] } | null = null;
  segments.forEach((steps, g) => {
    const gate = net.gates[g]!;
    const { name, candidates } = gate;
    const count = candidates.length;
    const scores = graph.node("Flatten", `${name}.scores`, [arrivals[0]!.scores!.name], { axis: 1 });
    const bias = graph.constant(`${name}.cost`, [count], Float32Array.from(costBias(lambda, costs[g]!)));
    const worth = graph.node("Add", `${name}.worth`, [scores, bias]);
    const choice = graph.node("ArgMax", `${name}.choice`, [worth], { axis: 1, keepdims: 0 });
    routes.push(graph.node("Gather", `${name}.width`, [graph.integers(`${name}.widths`, candidates), choice]));
    let way = choice;
    if (last !== null) {
      const arrived = graph.node("Gather", `${name}.arrived`, [graph.integers("ways", last.leadsTo), last.way]);
      const first = graph.node("Mul", `${name}.first`, [arrived, graph.integers("count", [count])]);
      way = graph.node("Add", `${name}.way`, [first, choice]);
    }
    const leaving = new Map<string, Arrival>();
    const leadsTo: number[] = [];
    const outputs = graph.choose(way, arrivals.length * count, (i, branch) => {
      const { walk } = arrivals[Math.floor(i / count)]!;
      const arrival = walkSegment(steps, branch, { ...walk, at: passGate(walk.at, gate, candidates[i % count]!) });
      // Ways that leave the same sizes at the same width are one to all that follows.
      const { slot, stream } = arrival.walk.at;
      const key = [slot, stream, arrival.walk.x.c, arrival.walk.input?.c].join(" ");
      if (!leaving.has(key)) leaving.set(key, arrival);
      leadsTo.push([...leaving.keys()].indexOf(key));
      return crossing(arrival);
    });
    arrivals = [...leaving.values()].map((arrival) => renamed(arrival, outputs));
    last = { way, leadsTo };
  });
  const route = graph.node("Concat", "route", routes, { axis: 0 });
  return { logits: arrivals[0]!.walk.x, route: [{ name: route, type: "int64", dims: [routes.length] }] };
}

/** What passes from an arrival into what follows. */
function crossing({ walk, scores }: Arrival): Value[] {
  const type = "float32";
  if (scores === null) return [{ name: walk.x.name, type, dims: [1, walk.x.c] }];
  const values = walk.input === null ? [walk.x, scores] : [walk.x, scores, walk.input];
  return values.map(({ name, c, h, w }) => ({ name, type, dims: [1, c, h, w] }));
}

/** The same under the names that `crossing` has outside. */
function renamed({ walk, scores }: Arrival, [x, score, input]: readonly Value[]): Arrival {
  return {
    walk: {
      ...walk,
      x: { ...walk.x, name: x!.name },
      input: walk.input && input ? { ...walk.input, name: input.name } : null,
    },
    scores: scores && { ...scores, name: score!.name },
  };
}

/** The widths that may be chosen, ascending: of a cascade two, or one where none goes on. */
function widthsOf(file: ModelFile): number[] {
  const { candidates } = file;
  const routing = routingOf(file);
  return routing.by === "gate" ? candidates : candidates.filter((k) => k === candidates[0] || k === routing.wider);
}

/** What a user of the file must know and ONNX has no place for. Numbers and lists are JSON. */
function metadataOf(file: ModelFile): Map<string, string> {
  const { model, classes, preprocessing } = file;
  const { height, width, channels, mean, std, interpolation, cropPct } = preprocessing;
  return new Map([
    ["model", model.name],
    ["labels", JSON.stringify(classes)],
    ["input_size", JSON.stringify([channels, height, width])],
    ["mean", JSON.stringify(mean)],
    ["std", JSON.stringify(std)],
    ["interpolation", interpolation],
    ["crop_pct", JSON.stringify(cropPct)],
    ["widths", JSON.stringify(widthsOf(file))],
  ]);
}
