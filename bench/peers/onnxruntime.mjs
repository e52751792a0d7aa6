/** onnxruntime-node and onnxruntime-web (WASM): PACKAGE THREADS */
import { readFileSync } from "node:fs";
import { planes, serve } from "./serve.mjs";

const [name, threads] = process.argv.slice(2);
const { InferenceSession, Tensor, env } = await import(name);
env.wasm.numThreads = Number(threads);

serve(async ({ onnx }, inputs, batch) => {
  const options = { intraOpNumThreads: Number(threads), interOpNumThreads: 1, logSeverityLevel: 3 };
  // The addon reads the file itself, and spares a copy of it.
  const session = await InferenceSession.create(name === "onnxruntime-node" ? onnx : readFileSync(onnx), options);
  const tensors = inputs.map((images) => new Tensor("float32", planes(images, batch), [batch, 3, 224, 224]));
  return async (i) => (await session.run({ input: tensors[i] })).logits.data;
});
