/**
 * Measures the forward pass in Chromium, in Duet and in ONNX Runtime Web on WebGPU:
 * `node browser.mjs DATA ORT_DIST duet|ort REPEATS` prints JSON. DATA is the folder that `torch_peer.py` wrote, ORT_DIST
 * the folder `dist` of the package onnxruntime-web.
 */

import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../../web/scripts/serve.mjs';
import { launch } from '../../web/tests/browser.mjs';
import { dist } from '../../web/tests/paths.mjs';
import { readSafetensors } from '../../web/tests/safetensors.mjs';

const PAGE = path.join(path.dirname(fileURLToPath(import.meta.url)), 'page.html');
/** What ONNX Runtime Web needs beyond Duet's own policy: modules of a blob. */
const POLICY = "default-src 'self' blob: data:; script-src 'self' blob: 'wasm-unsafe-eval'";

/** Seconds of processor time of all processes that this one has started: the browser's. */
function processorSeconds() {
  const processes = new Map();
  for (const name of readdirSync('/proc').filter((n) => /^\d+$/.test(n))) {
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'utf8').split(')').pop().trim().split(' ');
      processes.set(Number(name), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // It has ended since.
    }
  }
  const ours = (id) => {
    const parent = processes.get(id)?.parent;
    return parent !== undefined && (parent === process.pid || ours(parent));
  };
  let ticks = 0;
  for (const [id, one] of processes) if (ours(id)) ticks += one.ticks;
  return ticks / 100;
}

/** In the page: `globalThis.peer` becomes a call that answers eps; answers the adapter and how long loading took. */
async function loadDuet() {
  const { Duet } = await import('/dist/index.js');
  const started = performance.now();
  const model = await Duet.load('/data/model.safetensors');
  const milliseconds = performance.now() - started;
  globalThis.peer = async (images, timesteps) => {
    const size = images.length / timesteps.length;
    const rows = timesteps.map((_, i) => images.subarray(i * size, (i + 1) * size));
    return (await model.predictNoise(rows, timesteps)).flatMap((row) => [...row]);
  };
  return { milliseconds, version: undefined };
}

/** As `loadDuet`. */
async function loadOrt() {
  const ort = await import('/ort/ort.webgpu.bundle.min.mjs');
  const started = performance.now();
  const session = await ort.InferenceSession.create('/data/unet.onnx', { executionProviders: ['webgpu'] });
  const milliseconds = performance.now() - started;
  const side = 28;
  globalThis.peer = async (images, timesteps) => {
    const x = new ort.Tensor('float32', images, [timesteps.length, 1, side, side]);
    const t = new ort.Tensor('float32', Float32Array.from(timesteps), [timesteps.length]);
    return [...(await session.run({ x, t })).eps.data];
  };
  return { milliseconds, version: ort.env.versions.web };
}

/** In the page: one call, its time and its answer. */
async function call({ images, timesteps }) {
  const started = performance.now();
  const eps = await globalThis.peer(Float32Array.from(images), timesteps);
  return { milliseconds: performance.now() - started, eps };
}

const [data, ort, which, repeats] = process.argv.slice(2);
if (repeats === undefined || !['duet', 'ort'].includes(which)) {
  throw new Error('usage: node browser.mjs DATA ORT_DIST duet|ort REPEATS');
}
const { tensors } = readSafetensors(readFileSync(path.join(data, 'case.safetensors')));
const numbers = (name) => [...tensors.get(name).data];
const input = { images: numbers('x_t'), timesteps: numbers('t') };
const folders = { '/dist/': dist(), '/data/': data, '/ort/': ort, '/peers/page.html': PAGE };
const server = await serve(folders, { policy: POLICY });
const browser = await launch();
try {
  const page = await (await browser.newContext()).newPage();
  page.on('console', ({ type, text }) => type === 'error' && console.error(text));
  page.on('pageerror', (error) => console.error(error.message));
  await page.goto(`${server.url}/peers/page.html`);
  const adapter = await page.evaluate(async () => {
    const { vendor, architecture, description } = (await navigator.gpu.requestAdapter()).info;
    return [vendor, architecture, description].filter(Boolean).join(' ');
  });
  const { milliseconds, version } = await page.evaluate(which === 'duet' ? loadDuet : loadOrt);
  const first = await page.evaluate(call, input);
  await page.evaluate(call, input);
  const before = processorSeconds();
  const seconds = [];
  let eps = [];
  for (let i = 0; i < Number(repeats); i += 1) {
    const one = await page.evaluate(call, input);
    seconds.push(one.milliseconds / 1000);
    eps = one.eps;
  }
  const processor = (processorSeconds() - before) / Number(repeats);
  const want = numbers('eps');
  const apart = eps.length === want.length ? Math.max(...want.map((v, i) => Math.abs(v - eps[i]))) : Infinity;
  const times = { load: milliseconds / 1000, first: first.milliseconds / 1000, seconds, processor };
  const report = { version, browser: browser.version(), adapter, forward: { times, max_deviation: apart } };
  console.log(JSON.stringify(report));
} finally {
  await browser.close();
  await server.close();
}
