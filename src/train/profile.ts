/**
 * Where stage I's time goes: by part of its loop, and within its steps by op. It is told when a part begins, and watches the
 * backend's `run` from outside: where there is no profile, nothing is wrapped.
 */
import type { Backend } from "../backend/backend.js";
import { type OpName, RECORD_WORDS, RECORDS } from "../backend/records.js";

/** Waiting for the next batch; a batch's step; the evaluation of an epoch; checkpoints, logs, progress. */
export type Part = "data" | "step" | "evaluation" | "checkpoint";

export interface PartTime {
  part: Part;
  seconds: number;
  /** Of the whole; all parts' add up to 1. */
  share: number;
}

export interface OpTime {
  /** Ops of one kind together, in plain words. */
  name: string;
  calls: number;
  seconds: number;
  /** Of the steps' time; all ops' add up to 1. */
  share: number;
  /** Multiply-adds, 0 where it only moves or adds. */
  madds: number;
}

export interface ProfileReport {
  steps: number;
  seconds: number;
  parts: PartTime[];
  /** Slowest first. */
  ops: OpTime[];
}

/** Ops that are not here go by their own name. */
const NAMES: Partial<Record<OpName, string>> = {
  conv: "convolution, forward",
  conv_dx: "convolution, dx",
  conv_dw: "convolution, dw",
  depthwise: "depthwise, forward",
  depthwise_dx: "depthwise, dx",
  depthwise_dw: "depthwise, dw",
  batch_norm: "batch norm, forward",
  batch_norm_dx: "batch norm, backward",
  group_norm: "group norm, forward",
  group_norm_dx: "group norm, backward",
  affine: "activation and scaling, forward",
  affine_dx: "activation and scaling, backward",
  pool: "pooling, forward",
  pool_dx: "pooling, backward",
  add: "sums, forward",
  add_dx: "sums, backward",
  fill: "zeros",
  column_sum: "biases, backward",
  softmax: "loss",
  cross_entropy: "loss",
  count_nonfinite: "check for NaN",
  sgd: "optimiser",
  ema: "teacher, average",
  transpose: "weights transposed",
};
const TEACHER = "teacher, forward";
const BETWEEN = "between the ops (JavaScript)";

const OPS = new Map(Object.entries(RECORDS).map(([op, { code }]) => [code as number, op as OpName]));

export class Profile {
  readonly #parts: Record<Part, number> = { data: 0, step: 0, evaluation: 0, checkpoint: 0 };
  readonly #ops = new Map<string, { calls: number; ms: number; madds: number }>();
  #steps = 0;
  #part: Part | null = null;
  #since = 0;

  /** Watches the backend from now on, for as long as it lives. */
  constructor(backend: Backend) {
    const run = backend.run.bind(backend);
    backend.run = (records, count, n = 0) => {
      if (this.#part !== "step") {
        run(records, count, n);
        return;
      }
      const op = this.#op(backend, records, count, n);
      const started = performance.now();
      run(records, count, n);
      op.ms += performance.now() - started;
    };
  }

  /** The time until now belongs to the part before; null: to none from now on. */
  enter(part: Part | null): void {
    const now = performance.now();
    if (this.#part !== null) this.#parts[this.#part] += now - this.#since;
    if (part === "step") this.#steps++;
    this.#part = part;
    this.#since = now;
  }

  report(): ProfileReport {
    const total = Object.values(this.#parts).reduce((sum, ms) => sum + ms, 0);
    const share = (ms: number, of: number) => (of > 0 ? ms / of : 0);
    const inOps = [...this.#ops.values()].reduce((sum, { ms }) => sum + ms, 0);
    const { step } = this.#parts;
    const all = [...this.#ops, [BETWEEN, { calls: 0, ms: step - inOps, madds: 0 }] as const];
    return {
      steps: this.#steps,
      seconds: total / 1000,
      parts: Object.entries(this.#parts).map(([part, ms]) => ({
        part: part as Part,
        seconds: ms / 1000,
        share: share(ms, total),
      })),
      ops: all
        .map(([name, { calls, ms, madds }]) => ({ name, calls, seconds: ms / 1000, share: share(ms, step), madds }))
        .sort((a, b) => b.seconds - a.seconds),
    };
  }

  /** Where the time of these records is counted; their calls and multiply-adds already are. */
  #op({ i32 }: Backend, records: number, count: number, n: number): { ms: number } {
    const ops = new Set<OpName>();
    let madds = 0;
    for (let i = 0; i < count; i++) {
      const at = records / 4 + i * RECORD_WORDS;
      const op = OPS.get(i32[at]!)!;
      ops.add(op);
      madds += recordMadds(op, (field) => i32[at + wordOf(op, field)]!, n);
    }
    // Different ops in one call are a compiled plan's, and the only one that runs in a step is the teacher's.
    const [op] = ops;
    const name = ops.size > 1 ? TEACHER : (NAMES[op!] ?? op!);
    const found = this.#ops.get(name) ?? { calls: 0, ms: 0, madds: 0 };
    this.#ops.set(name, found);
    found.calls++;
    found.madds += madds;
    return found;
  }
}

/** Word of a record that holds the field. */
function wordOf(op: OpName, name: string): number {
  const { offsets, ints } = RECORDS[op];
  return 1 + [...(offsets as readonly string[]), ...ints].indexOf(name);
}

/** Multiply-adds of a convolution in any direction, 0 for others. `n`: the batch of records that leave theirs open. */
function recordMadds(op: OpName, read: (field: string) => number, n: number): number {
  const full = op.startsWith("conv");
  if (!full && !op.startsWith("depthwise")) return 0;
  const channels = full ? read("cin") * read("cout") : read("c");
  return (read("n") || n) * read("oh") * read("ow") * read("kernel") ** 2 * channels;
}
