// A page that makes an image and says what it shows, by a model in a worker.
import { DuetWorker } from 'duet-diffusion';

const model = await DuetWorker.load('model.safetensors');
const [image] = await model.sample({ seed: 1 });
const { label, best, probabilities } = await model.classify(image);

const canvas = document.querySelector('canvas');
[canvas.width, canvas.height] = [image.width, image.height];
canvas.getContext('2d').putImageData(image, 0, 0);
document.querySelector('p').textContent = `${label} to ${(100 * probabilities[best]).toFixed(0)} %`;
document.title = `done: ${document.querySelector('p').textContent}`;
await model.dispose();
