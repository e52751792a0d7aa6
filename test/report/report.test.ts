import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UsageError } from "../../src/errors.js";
import { evaluate } from "../../src/evaluate/evaluate.js";
import { type Epoch, type Example, type ReportData, renderReport } from "../../src/report/report.js";
import { bits, build, route } from "../evaluate/build.js";

const NASTY = `<script>alert("x")</script>&'`;
const PIXEL = "data:image/png;base64,iVBORw0KGgo=";

const example = (width: number, label = "cat", predicted = label): Example => ({
  dataUrl: PIXEL,
  label,
  predicted,
  width,
});

function evaluation(classNames = ["cat", "dog"]) {
  const p = build(
    [
      { madds: 10e6, correct: bits("1111100000") },
      { madds: 20e6, correct: bits("1111010011") },
      { madds: 30e6, correct: bits("1111111110") },
    ],
    { classNames },
    classNames.length,
  );
  p.largest = { madds: 60e6, correct: bits("1111111111") };
  p.cascade = { wider: 2, threshold: 0.6, madds: [10e6, 30e6, 40e6] };
  p.dynamic = route(p, [0, 0, 0, 0, 1, 2, 2, 2, 2, 0], 1e5);
  return evaluate(p);
}

const epochs: Epoch[] = [
  { stage: "supernet", epoch: 1, loss: { largest: 2, smallest: 2.5 }, accuracy: { 0: 0.3, 1: 0.4, largest: 0.5 } },
  { stage: "supernet", epoch: 2, loss: { largest: 1, smallest: 1.5 }, accuracy: { 0: 0.5, 1: 0.6, largest: 0.7 } },
  { stage: "supernet", epoch: 3, loss: { largest: 0.9, smallest: 1.4 } },
  { stage: "gate", epoch: 1, loss: { task: 0.7, cost: 0.1, sgs: 0.6 }, accuracy: { dynamic: 0.65 } },
];

const full = (): ReportData => ({
  title: "ds_mbnet_32 on CIFAR-10",
  facts: [
    ["Seed", "42"],
    ["Kernel build", "wasm"],
  ],
  config: { lr: 0.1, gate: { sgs: "try_best", candidates: [0, 1] }, aa: null },
  epochs,
  evaluation: evaluation(),
  examples: { easiest: [example(0)], hardest: [example(2, "cat", "dog"), example(2)] },
});

const empty: ReportData = { title: "", facts: [], config: {}, epochs: [] };

/** Every opened element is closed in its turn. */
function checkBalance(html: string): void {
  const isVoid = new Set(["meta", "img", "br"]);
  const open: string[] = [];
  for (const [tag, closing, name, selfClosing] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)(?:[^<>"]|"[^"]*")*?(\/?)>/g)) {
    if (isVoid.has(name!) || selfClosing === "/") continue;
    if (closing === "/") assert.equal(open.pop(), name, `closing ${tag}`);
    else open.push(name!);
  }
  assert.deepEqual(open, []);
}

const plots = (html: string) =>
  [
    ...html.matchAll(
      /<h3>([^<]*)<\/h3>(?:<p>[^<]*<\/p>)?<\/figcaption><div class="scroll"><svg[^>]* data-points="(\d+)"/g,
    ),
  ].map(([, title, points]) => [title, Number(points)]);

describe("report", () => {
  it("is well-formed, full and empty", () => {
    for (const data of [full(), empty]) {
      const html = renderReport(data);
      assert.match(html, /^<!doctype html>\n<html lang="en">/);
      checkBalance(html);
      assert.doesNotMatch(html, /NaN|undefined|Infinity/);
    }
  });

  it("refers to nothing outside itself and runs no script", () => {
    const html = renderReport(full());
    assert.doesNotMatch(html, /https?:|\bhref=|<link|<script|<iframe|@import|url\(/);
    for (const [, source] of html.matchAll(/\bsrc="([^"]*)"/g)) assert.match(source!, /^data:image\//);
    assert.match(html, /Content-Security-Policy" content="default-src 'none'/);
  });

  it("has every plot, with all of its data points", () => {
    assert.deepEqual(plots(renderReport(full())), [
      ["Accuracy against cost", 7], // 3 widths, dynamic, cascade, random, oracle
      ["Widths taken, by class", 9], // (all + 2 classes) × 3 candidates
      ["Loss, stage I, supernet", 6],
      ["Accuracy, stage I, supernet", 6],
      ["Loss, stage II, gate", 3],
      ["Accuracy, stage II, gate", 1],
    ]);
  });

  it("draws one mark a point, with its value as a tooltip", () => {
    const html = renderReport(full());
    assert.equal(html.match(/<circle /g)!.length, 6 + 6 + 3 + 1);
    assert.equal(html.match(/<g class="mark"/g)!.length, 7);
    assert.ok(html.includes("<title>largest, epoch 2: 70</title>"));
    assert.ok(html.includes("<title>dynamic: 19.1, 80</title>"));
    assert.ok(html.includes("<title>dog, width 2: 2 of 5</title>"));
  });

  it("holds the honest table, the findings, the facts and the flattened configuration", () => {
    const html = renderReport(full());
    for (const row of ["width 0", "largest", "dynamic", "static envelope", "random routing", "oracle"]) {
      assert.ok(html.includes(`<td>${row}</td>`), row);
    }
    assert.match(html, /Dynamic minus the static envelope at the same mean MAdds/);
    assert.ok(html.includes("<dt>Seed</dt><dd>42</dd>"));
    assert.ok(html.includes("<dt>gate.sgs</dt><dd>try_best</dd>"));
    assert.ok(html.includes("<dt>gate.candidates</dt><dd>0, 1</dd>"));
    assert.ok(html.includes("<dt>aa</dt><dd>null</dd>"));
  });

  it("shows the width that each example took, and what it was taken for", () => {
    const html = renderReport(full());
    assert.equal(html.match(/<img /g)!.length, 3);
    assert.ok(html.includes('alt="cat, taken for dog"'));
    assert.match(html, /<strong>width 2<\/strong><br>✗ cat, taken for dog/);
  });

  it("escapes whatever a user can name", () => {
    const html = renderReport({
      title: NASTY,
      facts: [[NASTY, NASTY]],
      config: { [NASTY]: { [NASTY]: NASTY } },
      epochs: [{ stage: "supernet", epoch: 1, loss: { [NASTY]: 1 }, accuracy: { [NASTY]: 0.5 } }],
      evaluation: evaluation([NASTY, `"><img src=x onerror=y>`]),
      examples: { easiest: [example(0, NASTY, `" onload="`)], hardest: [] },
    });
    checkBalance(html);
    assert.doesNotMatch(html, /<script|<img src=x|" onload="/);
    assert.ok(html.includes("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;"));
  });

  it("refuses an example that is not an inline image", () => {
    for (const dataUrl of ["https://example.org/cat.png", 'data:image/png;base64,"><b', "data:text/html;base64,AAAA"]) {
      const data = { ...full(), examples: { easiest: [{ ...example(0), dataUrl }], hardest: [] } };
      assert.throws(() => renderReport(data), UsageError);
    }
  });

  it("renders what there is: no epochs, no gate, one epoch, values that are not finite", () => {
    const html = renderReport(empty);
    assert.match(html, /The run was not evaluated/);
    assert.match(html, /No epoch was recorded/);
    const odd: Epoch[] = [
      { stage: "supernet", epoch: 0, loss: { largest: Number.NaN, smallest: 1 }, accuracy: {} },
      { stage: "gate", epoch: 0, loss: { task: Number.POSITIVE_INFINITY } },
    ];
    const once = renderReport({ ...empty, epochs: odd });
    assert.deepEqual(plots(once), [["Loss, stage I, supernet", 1]]);
    assert.match(once, /1 value was not finite/);
    assert.doesNotMatch(once.replace(/<details>.*?<\/details>/g, ""), /NaN|Infinity/);
  });

  it("draws thirty of many classes, says so, and keeps all in the table", () => {
    const names = Array.from({ length: 40 }, (_, c) => `class-${c}`);
    const p = build(
      [
        { madds: 10, correct: new Uint8Array(80) },
        { madds: 20, correct: new Uint8Array(80) },
      ],
      { classNames: names },
      40,
    );
    p.dynamic = route(
      p,
      Array.from({ length: 80 }, (_, i) => Number(i % 40 > 20)),
    );
    const html = renderReport({ ...empty, evaluation: evaluate(p) });
    assert.deepEqual(plots(html)[1], ["Widths taken, by class", 31 * 2]);
    assert.match(html, /Of 40 classes the 15 slimmest and the 15 widest are drawn/);
    assert.equal(html.match(/<td>class-\d+<\/td>/g)!.length, 40);
  });
});
