/** Weights of a network in and out of the arena: the border where published layouts become panels. */
import type { Backend } from "../backend/backend.js";
import { asFloat32, float32Tensor } from "../io/float32.js";
import { checkTensors, selectTensors } from "../io/model-file.js";
import type { StoredTensor } from "../io/safetensors.js";
import type { Param } from "../nn/parameters.js";
import { Philox } from "../random/philox.js";
import type { Supernet } from "./build.js";

/** A span for the network's parameters and statistics, zeroed. Free it with `backend.arena.free`. */
export function allocSpan(backend: Backend, floats: number): number {
  const at = backend.arena.alloc(floats * 4, true);
  backend.f32.fill(0, at / 4, at / 4 + floats);
  return at;
}

/** The floats of one parameter in a span. A view: renew it after any allocation. */
export function part(backend: Backend, span: number, param: Param): Float32Array {
  const at = param.in(span) / 4;
  return backend.f32.subarray(at, at + param.floats);
}

/**
 * Copies named tensors into the span. A missing, extra or misshapen one is an error that names it. `statistics: false`:
 * the span has none (momentum).
 */
export function readState(
  backend: Backend,
  net: Supernet,
  span: number,
  tensors: ReadonlyMap<string, StoredTensor>,
  options: { statistics?: boolean } = {},
): void {
  const { statistics = true } = options;
  const params = net.layout.params.filter((p) => statistics || p.role !== "statistic");
  checkParameters(net, tensors, params);
  packAll(backend, params, span, tensors);
}

/** A span with a model file's parameters. Its table can claim any size, so the tensors are checked before memory is taken. */
export function loadSpan(backend: Backend, net: Supernet, tensors: ReadonlyMap<string, StoredTensor>): number {
  const parameters = selectTensors(tensors, "parameters");
  checkParameters(net, parameters);
  const span = allocSpan(backend, net.layout.floats);
  packAll(backend, net.layout.params, span, parameters);
  return span;
}

/** FormatError, which names them, where the tensors are not the network's parameters, each and no other, each of its shape. */
export function checkParameters(
  net: Supernet,
  tensors: ReadonlyMap<string, StoredTensor>,
  params: readonly Param[] = net.layout.params,
): void {
  checkTensors(new Map(params.map((p) => [p.name, p.fileShape])), tensors);
}

function packAll(
  backend: Backend,
  params: readonly Param[],
  span: number,
  tensors: ReadonlyMap<string, StoredTensor>,
): void {
  for (const param of params) {
    param.pack(asFloat32(tensors.get(param.name)!), part(backend, span, param));
  }
}

/** The span's content as named tensors, copies. `statistics: false` leaves those out (momentum has none). */
export function writeState(
  backend: Backend,
  net: Supernet,
  span: number,
  options: { prefix?: string; statistics?: boolean } = {},
): Map<string, StoredTensor> {
  const { prefix = "", statistics = true } = options;
  const tensors = new Map<string, StoredTensor>();
  for (const param of net.layout.params) {
    if (param.role === "statistic" && !statistics) continue;
    const values = param.unpack(part(backend, span, param));
    tensors.set(prefix + param.name, float32Tensor([...param.fileShape], values));
  }
  return tensors;
}

/**
 * Random start, as the published code: convolutions N(0, √(2 / (k²·cout/groups))) at their widest sizes, norms 1 and 0,
 * statistics 0 and 1, classifier uniform ±1/√classes, zero gain in the last norm of residual blocks.
 */
export function initState(backend: Backend, net: Supernet, span: number, seed: number): void {
  for (const param of net.layout.params) {
    const values = new Float32Array(param.size);
    const random = new Philox(seed, "init", param.name);
    if (param === net.classifier.weight) {
      const bound = 1 / Math.sqrt(net.spec.classes);
      for (let i = 0; i < values.length; i++) values[i] = (random.float() * 2 - 1) * bound;
    } else if (param.kind !== "vector") {
      const [cout, , kh, kw] = param.shape as [number, number, number, number];
      const fanOut = kh * kw * (param.kind === "depthwise" ? 1 : cout);
      const std = Math.sqrt(2 / fanOut);
      for (let i = 0; i < values.length; i++) values[i] = random.normal() * std;
    } else if (param.name.endsWith("running_var") || param.name.endsWith(".weight")) {
      values.fill(1);
    }
    param.pack(values, part(backend, span, param));
  }
  if (net.spec.residual) {
    for (const norm of net.lastNorms) part(backend, span, norm.weight).fill(0);
  }
}
