/** Routing: however images come together, each gets the bits of running alone, at the widths its gates choose. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Backend } from "../../src/backend/backend.js";
import { openBackend } from "../../src/backend/open.js";
import { gatedMadds } from "../../src/cost/gated.js";
import { madds, maddsBeforeGate } from "../../src/cost/madds.js";
import { Plan } from "../../src/engine/plan.js";
import { build, type Supernet } from "../../src/models/build.js";
import { Philox } from "../../src/random/philox.js";
import { randomImages, randomSpan, smallSpecs } from "../support/networks.js";
import { floatsAt } from "../support/parity-networks.js";

const all = [await openBackend({ threads: 2 }), await openBackend({ device: "wasm", threads: 1 })];
after(() => {
  for (const backend of all) backend.dispose();
});

const N = 12;

/** A bias for the first gate that takes the scores' means away, so that the images part ways. */
function balance(backend: Backend, plan: Plan, net: Supernet, images: Float32Array): number[] {
  const { candidates } = net.gates[0]!;
  backend.f32.set(images, plan.input / 4);
  const scores = plan.gateScores(N);
  return candidates.map((_, k) => {
    const column = Array.from({ length: N }, (_, i) => scores[i * candidates.length + k]!);
    return -column.reduce((a, b) => a + b) / N;
  });
}

describe("routes", () => {
  for (const backend of all) {
    for (const [seed, spec] of smallSpecs.entries()) {
      it(`${spec.description}, ${backend.build}: any batch gives the bits of one image at a time`, () => {
        const net = build(spec);
        const span = randomSpan(backend, net, seed);
        const images = randomImages(spec, N, seed);
        const size = images.length / N;
        const { classes } = spec;
        const one = new Plan(backend, net, span, { batch: 1 });
        const many = new Plan(backend, net, span, { batch: N });
        const bias = balance(backend, many, net, images);
        for (const plan of [one, many]) plan.setBias(0, bias);
        const image = (i: number) => images.subarray(i * size, (i + 1) * size);

        const alone = Array.from({ length: N }, (_, i) => {
          backend.f32.set(image(i), one.input / 4);
          const [route] = one.runDynamic(1);
          const logits = floatsAt(backend, one.logits, classes);
          one.run(1, route!);
          assert.deepEqual(floatsAt(backend, one.logits, classes), logits, `fixed ${route}`);
          assert.ok(logits.every(Number.isFinite));
          return { route: route!, logits };
        });
        for (const { route } of alone) {
          net.gates.forEach((gate, g) => {
            assert.ok(gate.candidates.includes(route[g]!));
          });
        }

        const random = new Philox(seed, "batches");
        for (const n of [1, 2, 3, 7, N]) {
          const batch = Array.from({ length: n }, () => random.int(N));
          batch.forEach((i, row) => {
            backend.f32.set(image(i), many.input / 4 + row * size);
          });
          const routes = many.runDynamic(n);
          batch.forEach((i, row) => {
            assert.deepEqual(routes[row], alone[i]!.route, `batch of ${n}, row ${row}`);
            const logits = floatsAt(backend, many.logits + row * classes * 4, classes);
            assert.deepEqual(logits, alone[i]!.logits, `batch of ${n}, row ${row}`);
          });
          for (let slot = 0; slot < net.widths; slot++) {
            many.run(n, slot);
            const logits = floatsAt(backend, many.logits, n * classes);
            backend.f32.copyWithin(one.input / 4, many.input / 4, many.input / 4 + size);
            one.run(1, slot);
            assert.deepEqual(floatsAt(backend, one.logits, classes), logits.slice(0, classes), `width ${slot}`);
          }
        }

        const dealt = randomRoutes(net, random);
        for (let i = 0; i < N; i++) backend.f32.set(image(i), many.input / 4 + i * size);
        many.runRoutes(dealt);
        const mixed = floatsAt(backend, many.logits, N * classes);
        dealt.forEach((route, i) => {
          backend.f32.set(image(i), one.input / 4);
          one.run(1, route);
          const got = mixed.slice(i * classes, (i + 1) * classes);
          assert.deepEqual(got, floatsAt(backend, one.logits, classes), `image ${i} on ${route}`);
        });
        one.dispose();
        many.dispose();
        backend.arena.free(span);
      });
    }
  }

  it("some images part ways in the networks above", () => {
    const backend = all[0]!;
    const taken = smallSpecs.map((spec, seed) => {
      const net = build(spec);
      const plan = new Plan(backend, net, randomSpan(backend, net, seed), { batch: N });
      plan.setBias(0, balance(backend, plan, net, randomImages(spec, N, seed)));
      return new Set(plan.runDynamic(N).map(String)).size;
    });
    assert.ok(taken.filter((routes) => routes > 1).length >= smallSpecs.length / 2, taken.join());
    assert.ok(Math.max(...taken) >= 3, taken.join());
  });

  it("what was chosen is what is counted: the gate's MAdds at one-hot choices are the route's exact count", () => {
    for (const spec of smallSpecs) {
      const net = build(spec);
      for (const route of routesOf(net)) {
        const choices = net.gates.map(({ candidates }, g) => candidates.map((k) => (k === route[g] ? 1 : 0)));
        assert.equal(gatedMadds(net, choices).madds, madds(net, route, true), `${spec.description} ${route}`);
      }
      assert.ok(maddsBeforeGate(net) < madds(net, 0));
    }
  });
});

/** A random route for each of N images. */
function randomRoutes(net: Supernet, random: Philox): number[][] {
  return Array.from({ length: N }, () => net.gates.map(({ candidates }) => candidates[random.int(candidates.length)]!));
}

/** Every way through the gates. */
function routesOf(net: Supernet): number[][] {
  return net.gates.reduce<number[][]>(
    (routes, gate) => routes.flatMap((route) => gate.candidates.map((k) => [...route, k])),
    [[]],
  );
}
