// A counterfactual in Deno, in a worker: deno run --allow-all explain.ts MODEL.safetensors
import { DuetWorker, type Explanation } from 'duet-diffusion';

const model = await DuetWorker.load(Deno.args[0] ?? 'model.safetensors');
const [image] = await model.sample({ class: 0, seed: 1 });
const { label, probabilities } = await model.classify(image);
const [, second] = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
const why: Explanation = await model.explain(image, { target: second });
const percent = (100 * why.after.probabilities[second]).toFixed(0);
console.log(`${model.info.adapter}: ${label}, then ${model.info.classNames[second]} to ${percent} %`);
await model.dispose();
