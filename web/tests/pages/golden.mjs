/**
 * One training step on the golden file's inputs, straight through the WebAssembly module. Gradients are summed up here:
 * all of them would be millions of numbers on the way out of the page.
 */

import init, { training_step as trainingStep } from '/dist/wasm/duet_web.js';
import { readSafetensors } from '/tests/safetensors.mjs';
import { summary } from '/tests/summary.mjs';

/** @param {string} name */
async function bytes(name) {
  const response = await fetch(`/fixtures/${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {boolean} noised */
async function goldenStep(noised) {
  await init({ module_or_path: '/dist/wasm/duet_web_bg.wasm' });
  const [checkpoint, golden] = [await bytes('golden.safetensors'), readSafetensors(await bytes('mnist28_c32.safetensors'))];
  const input = (/** @type {string} */ name) => golden.tensors.get(`input.${name}`).data;
  const started = performance.now();
  const answer = await trainingStep(checkpoint, {
    x_start: input('x_start'),
    noise: input('noise'),
    t: Uint32Array.from(input('t')),
    labels: Uint32Array.from(input('y')),
    noised,
  });
  const milliseconds = performance.now() - started;
  const gradients = answer.gradients instanceof Map ? [...answer.gradients] : Object.entries(answer.gradients);
  const [rows, lengths, full] = [{}, {}, {}];
  let squares = 0;
  for (const [name, data] of gradients) {
    rows[name] = summary(name, data);
    lengths[name] = data.length;
    squares += rows[name][0] ** 2;
    if (golden.tensors.has(`grad.${name}`)) full[name] = data;
  }
  const { loss, mse, logits, model_out: modelOut } = answer;
  return { milliseconds, loss, mse, logits, modelOut, rows, lengths, full, norm: Math.sqrt(squares) };
}

Object.assign(globalThis, { goldenStep });
document.documentElement.dataset.ready = 'true';
