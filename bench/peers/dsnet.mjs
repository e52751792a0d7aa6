/** dsnet through its public surface: DEVICE THREADS */
import { load } from "../../dist/src/index.js";
import { serve } from "./serve.mjs";

const [device, threads] = process.argv.slice(2);
const networks = new Map();

serve(async ({ model, width }, inputs) => {
  if (!networks.has(model)) networks.set(model, await load(model, { device, threads: Number(threads) }));
  return (i) => networks.get(model).run(inputs[i], { width });
});
