// A counterfactual in a page: what would have to change for the second best answer to be the best?
import { DuetWorker } from '../node_modules/duet-diffusion/dist/index.js';

const show = (canvas, image) => {
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext('2d').putImageData(image, 0, 0);
};

const model = await DuetWorker.load('model.safetensors');
const [image] = await model.sample({ class: 0, seed: 1 });
const { probabilities } = await model.classify(image);
const [, second] = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
const why = await model.explain(image, { target: second });

const [before, after] = document.querySelectorAll('canvas');
show(before, why.original);
show(after, why.counterfactual);
const percent = (100 * why.after.probabilities[second]).toFixed(0);
document.querySelector('p').textContent = `${why.before.label}, then ${model.info.classNames[second]} to ${percent} %`;
document.title = `done: ${document.querySelector('p').textContent}`;
await model.dispose();
