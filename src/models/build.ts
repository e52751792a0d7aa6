/** Table → supernet: layers, parameters, and the steps of the walk through them. */
import type { Precision } from "../backend/backend.js";
import {
  type BlockShape,
  bottleneckBlock,
  convBlock,
  invertedBlock,
  outputWidths,
  type Step,
  separableBlock,
  startWalk,
  type Walk,
} from "../nn/blocks.js";
import type { Exec } from "../nn/exec.js";
import { gateLayers } from "../nn/gate.js";
import { type Conv, type Declare, declareConv, declareNorm, type Gate, type Norm, normEntry } from "../nn/layers.js";
import { Layout, type Param } from "../nn/parameters.js";
import { choiceAt, type Position, type Route, type Slot, startOf } from "../nn/width.js";
import type { PoolWindow } from "../ops/pool.js";
import { checkSpec, fullWidth, type ModelSpec, squeezeOf, widthCount } from "./spec.js";

/** A network that holds every width. Immutable: weights lie in spans (nn/parameters.ts), not here. */
export interface Supernet {
  readonly spec: ModelSpec;
  /** What its convolutions multiply in; stem and gates always in fp32. */
  readonly precision: Precision;
  readonly layout: Layout;
  readonly steps: readonly Step[];
  readonly gates: readonly Gate[];
  readonly norms: readonly Norm[];
  /** The norm before each residual sum: it starts with zero gain. */
  readonly lastNorms: readonly Norm[];
  readonly convs: readonly Conv[];
  /** Output widths of the stage that each gate is in: what it chooses among. */
  readonly slimWidths: readonly (readonly number[])[];
  readonly classifier: Conv;
  /** Number of numbered widths. */
  readonly widths: number;
  /** Whether `largest` is no wider than the highest numbered width: nothing slims before the first gate. */
  readonly largestIsNumbered: boolean;
}

/** The slot at which the network is widest. */
export function topSlot(net: Supernet): Slot {
  return net.largestIsNumbered ? net.widths - 1 : "largest";
}

const blocks = { separable: separableBlock, inverted: invertedBlock, bottleneck: bottleneckBlock, conv: convBlock };
const stemPool: PoolWindow = { kind: "max", kernel: 3, stride: 2, pad: 1, ceil: false };

/** Every slot, `largest` only where it is another network than the widest numbered width. */
export function slotsOf(net: Pick<Supernet, "widths" | "largestIsNumbered">): Slot[] {
  const numbered = Array.from({ length: net.widths }, (_, k): Slot => k);
  return net.largestIsNumbered ? numbered : [...numbered, "largest"];
}

/** The network of a table. In bf16 it can be run, not trained. */
export function build(spec: ModelSpec, precision: Precision = "fp32"): Supernet {
  checkSpec(spec);
  const widths = widthCount(spec);
  const candidates = spec.candidates ?? Array.from({ length: widths }, (_, k) => k);
  const gateShape = spec.gate ?? { hidden: 0, bias: false };
  const params: Param[] = [];
  const declare: Declare = (param) => {
    params.push(param);
    return param;
  };
  // The stem's few channels would mostly multiply zeros; the gates' scores are worth more than the time they take.
  const declareBehind: Declare = (param) =>
    declare(precision === "bf16" && param.kind === "conv" && param.role !== "gate" ? param.inBf16() : param);
  const stem = declareConv(declare, "conv_stem", [spec.input.channels], spec.stem.widths, {
    kernel: spec.stem.kernel,
    stride: spec.stem.stride,
  });
  const bn1 = declareNorm(declare, "bn1", spec.stem.widths, spec.norm, { gates: 0, slots: widths });
  const steps: Step[] = [
    {
      name: "stem",
      gate: null,
      run: (exec, walk) => {
        walk.x = exec.conv(walk.x, stem, bn1, spec.act, walk.at);
        if (spec.stem.pool) walk.x = exec.pool(walk.x, stemPool);
      },
    },
  ];
  let cin: readonly number[] = spec.stem.widths;
  let fullIn = fullWidth(spec.stem);
  let gateIndex = 0;
  spec.stages.forEach((stage, i) => {
    for (let j = 0; j < stage.repeat; j++) {
      const shape: BlockShape = {
        kernel: stage.kernel,
        stride: j === 0 ? stage.stride : 1,
        cin,
        cout: stage.widths,
        full: { cin: fullIn, cout: fullWidth(stage) },
        act: spec.act,
        norm: spec.norm,
        attention: spec.attention,
        residual: stage.block === "conv" ? false : spec.residual,
        actAfterSum: spec.actAfterSum ?? false,
        expansion: stage.expansion ?? 6,
        squeeze: squeezeOf(stage, j),
        upstream: { gates: gateIndex, slots: widths },
        gate: (stage.gates ?? []).includes(j) ? { index: gateIndex++, candidates, shape: gateShape } : null,
      };
      const name = j === 0 ? `blocks.${i}.first_block` : `blocks.${i}.residual_blocks.${j - 1}`;
      steps.push(...blocks[stage.block](declareBehind, name, shape));
      cin = outputWidths(shape);
      fullIn = fullWidth(stage);
    }
  });
  const classifier = declareConv(declareBehind, "classifier", cin, [spec.classes], { bias: true, linear: true });
  steps.push({
    name: "classifier",
    gate: null,
    run: (exec, walk) => {
      const features = exec.features(exec.globalPool(walk.x));
      walk.x = exec.conv(features, classifier, null, "none", walk.at);
    },
  });
  const recorder = layersOf(steps);
  return {
    spec,
    precision,
    layout: new Layout(params),
    steps,
    gates: steps.flatMap((s) => (s.gate === null ? [] : [s.gate])),
    norms: recorder.norms,
    lastNorms: recorder.lastNorms,
    convs: recorder.convs,
    slimWidths: spec.stages.flatMap((stage) => (stage.gates ?? []).map(() => stage.widths)),
    classifier,
    widths,
    largestIsNumbered: slimsOnlyBehindGates(spec),
  };
}

/** Walks the whole network, asking the Exec at every gate. Returns the logits. */
export function walkNetwork<T>(steps: readonly Step[], exec: Exec<T>, x: T, slot: Slot): T {
  return walkOn(steps, exec, startWalk(x, slot)).x;
}

/** Takes a walk on through `steps`; returns the walk, which is changed. */
export function walkOn<T>(steps: readonly Step[], exec: Exec<T>, walk: Walk<T>): Walk<T> {
  for (const step of steps) step.run(exec, walk);
  return walk;
}

/**
 * Takes a walk through a segment of `cutAtGates`; its gate, the last step, has no choice to go on with. Returns where it found the
 * walk: what follows starts from there.
 */
export function walkToGate<T>(steps: readonly Step[], exec: Exec<T>, walk: Walk<T>): Position {
  let { at } = walk;
  for (const step of steps) {
    at = walk.at;
    step.run(exec, walk);
  }
  return at;
}

/** The steps before the first gate, and the rest from that gate on. Without gates nothing comes before. */
export function splitAtGate(net: Supernet): { head: readonly Step[]; tail: readonly Step[] } {
  const at = Math.max(
    net.steps.findIndex((s) => s.gate !== null),
    0,
  );
  return { head: net.steps.slice(0, at), tail: net.steps.slice(at) };
}

/** Steps up to and including each gate, then the rest. */
export function cutAtGates(steps: readonly Step[]): Step[][] {
  const segments: Step[][] = [[]];
  for (const step of steps) {
    segments[segments.length - 1]!.push(step);
    if (step.gate !== null) segments.push([]);
  }
  return segments;
}

function slimsOnlyBehindGates(spec: ModelSpec): boolean {
  const gated = spec.stages.findIndex((stage) => (stage.gates ?? []).length > 0);
  // Blocks before the gate inside its own stage run at that stage's widths too.
  const past = gated >= 0 && Math.min(...spec.stages[gated]!.gates!) > 0 ? gated + 1 : gated;
  const early = [spec.stem, ...spec.stages.slice(0, past < 0 ? spec.stages.length : past)];
  return early.every((row) => row.widths.length === 1);
}

/** Norms and convolutions of some steps in order of execution, found by walking with an Exec that only takes notes. */
export function layersOf(steps: readonly Step[]): { norms: Norm[]; lastNorms: Norm[]; convs: Conv[] } {
  const norms: Norm[] = [];
  const lastNorms: Norm[] = [];
  const convs: Conv[] = [];
  // The activation is the norm that made it, which a residual sum asks for.
  const notes: Exec<Norm | null> = {
    conv: (_x, conv, norm) => {
      convs.push(conv);
      if (norm !== null) norms.push(norm);
      return norm;
    },
    depthwise: (_x, _conv, norm) => {
      norms.push(norm);
      return norm;
    },
    gate: (gate, _reduced, { slot }) => {
      convs.push(...gateLayers(gate));
      return slot;
    },
    add: (main) => {
      if (main !== null) lastNorms.push(main);
      return null;
    },
    pool: () => null,
    globalPool: () => null,
    scale: (x) => x,
    features: () => null,
  };
  walkNetwork(steps, notes, null, "largest");
  return { norms, lastNorms, convs };
}

/** The parameters that the network uses on a route, in order of execution; those of the slimming heads are not among them. */
export function paramsAlong(net: Supernet, route: Route): Param[] {
  const used: Param[] = [];
  const note = ({ weight, bias }: Pick<Conv, "weight" | "bias">, norm: Norm | null, at: Position): null => {
    used.push(weight);
    if (bias !== null) used.push(bias);
    if (norm === null) return null;
    used.push(norm.weight, norm.bias);
    const stats = norm.stats[normEntry(norm, at)];
    if (stats !== undefined) used.push(stats.mean, stats.var);
    return null;
  };
  const notes: Exec<null> = {
    conv: (_x, conv, norm, _act, at) => note(conv, norm, at),
    depthwise: (_x, { weight }, norm, _act, at) => note({ weight, bias: null }, norm, at),
    gate: (gate) => choiceAt(route, gate.index),
    pool: () => null,
    globalPool: () => null,
    scale: () => null,
    add: () => null,
    features: () => null,
  };
  walkNetwork(net.steps, notes, null, startOf(route));
  return used;
}
