/** The network that a model file describes; refuses a file whose parts do not fit each other. */
import type { Precision } from "../backend/backend.js";
import { FormatError, UncalibratedError } from "../errors.js";
import type { ModelFile } from "../io/model-file.js";
import type { Slot } from "../nn/width.js";
import { build, type Supernet } from "./build.js";
import { readSpec } from "./read-spec.js";

/** Builds the file's network. FormatError where the table makes none, or classes, preprocessing or widths are not its. */
export function networkOf(file: ModelFile, precision: Precision = "fp32"): Supernet {
  const { model, classes, preprocessing, candidates, calibrated = [], calibration = [], cascades = [], routing } = file;
  const net = built(model.spec, precision);
  const { input, classes: logits } = net.spec;
  const expect = (fits: boolean, name: string, expected: string, got: unknown) => {
    if (!fits) throw new FormatError(`Expected ${name} of a ${model.name} to be ${expected}, got ${got}.`);
  };
  expect(classes.length === logits, "the classes", `${logits} labels`, classes.length);
  const size = ({ height, width, channels }: typeof input | typeof preprocessing) => `${height}×${width}×${channels}`;
  expect(size(preprocessing) === size(input), "the preprocessing", size(input), size(preprocessing));
  const own = net.gates[0]?.candidates.join(", ") ?? "none";
  expect(candidates.length === 0 || candidates.join(", ") === own, "the candidates", own, candidates.join(", "));
  const unknown = calibrated.find((slot) => slot !== "largest" && slot >= net.widths);
  expect(unknown === undefined, "the calibrated widths", `0 to ${net.widths - 1} or largest`, unknown);
  const counts = [...calibration, ...cascades].flatMap(({ shares }) => (shares === undefined ? [] : [shares.length]));
  const odd = counts.find((count) => candidates.length > 0 && count !== candidates.length);
  expect(odd === undefined, "the calibration's shares", `${candidates.length}, one a candidate`, odd);
  const isCascade = routing?.by === "cascade";
  expect(!isCascade || net.gates.length === 1, "the gates", "one, as it chooses by a cascade", net.gates.length);
  const wider = [...cascades, ...(isCascade ? [routing] : [])].map((cascade) => cascade.wider);
  const strange = wider.find((width) => !candidates.includes(width));
  expect(strange === undefined, "the cascade's wider width", `one of the candidates ${candidates.join(", ")}`, strange);
  return net;
}

function built(spec: unknown, precision: Precision): Supernet {
  try {
    return build(readSpec(spec, "model.spec"), precision);
  } catch (cause) {
    throw new FormatError(`The model's spec makes no network: ${(cause as Error).message}`, { cause });
  }
}

/** The slot, where its norm statistics were measured; else UncalibratedError. */
export function checkCalibrated(slot: Slot, calibrated: readonly Slot[] = []): Slot {
  if (calibrated.includes(slot)) return slot;
  throw new UncalibratedError(
    `width ${slot} has no measured norm statistics; calibrated: ${calibrated.join(", ") || "none"}. ` +
      "Finish the training run, which measures them.",
  );
}
