// A counterfactual in Node, on the WebGPU of the npm package `webgpu`: node explain.js MODEL.safetensors
import { Duet } from 'duet-diffusion';

const model = await Duet.load(process.argv[2] ?? 'model.safetensors');
const [image] = await model.sample({ class: 0, seed: 1 });
// Pictures of your own: { data, width, height }, as sharp, pngjs and jpeg-js give them.
const { label, probabilities } = await model.classify(image);
const [, second] = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
const why = await model.explain(image, { target: second });
const percent = (100 * why.after.probabilities[second]).toFixed(0);
console.log(`${model.info.adapter}: ${label}, then ${model.info.classNames[second]} to ${percent} %`);
await model.dispose();
