/**
 * Measures the library in a browser (Chromium, or $DUET_BROWSER): `node tests/measure.mjs` prints a table, then the same as JSON.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { serve } from '../scripts/serve.mjs';
import { Visit, engine, launch, libraryFolders } from './browser.mjs';
import { DIST, fixture } from './paths.mjs';

/** Classifications that are averaged. */
const REPEATS = 10;
/** Explanations by each method, in turn. */
const ROUNDS = 3;

/** Runs in the page. */
async function measure({ image, target, repeats, rounds }) {
  const { duet } = globalThis;
  // How long no submitted work was pending, from the first submit on.
  const gpu = { pending: 0, idle: 0, since: undefined, submits: 0 };
  const submit = GPUQueue.prototype.submit;
  GPUQueue.prototype.submit = function counted(...words) {
    const now = performance.now();
    if (gpu.pending === 0 && gpu.since !== undefined) gpu.idle += now - gpu.since;
    gpu.pending += 1;
    gpu.submits += 1;
    submit.apply(this, words);
    this.onSubmittedWorkDone().then(
      () => {
        gpu.pending -= 1;
        if (gpu.pending === 0) gpu.since = performance.now();
      },
      () => undefined,
    );
  };
  const timed = async (body) => {
    const started = performance.now();
    const answer = await body();
    return { milliseconds: performance.now() - started, answer };
  };
  const pixels = Float32Array.from(image);
  const load = await timed(() => duet.Duet.load('/fixtures/parity.safetensors'));
  const model = load.answer;
  const first = await timed(() => model.classify(pixels));
  const steady = await timed(async () => {
    for (let i = 0; i < repeats; i += 1) await model.classify(pixels);
  });
  const cold = await timed(() => model.explain(pixels, { target }));
  Object.assign(gpu, { idle: 0, submits: 0, since: performance.now() });
  let steps = 0;
  const onStep = () => {
    steps += 1;
  };
  const warm = await timed(() => model.explain(pixels, { target, seed: 1, onStep }));
  if (gpu.pending === 0) gpu.idle += performance.now() - gpu.since;
  // Of this explanation alone: those below count on.
  const { idle, submits } = gpu;
  // By turns, for the machine may be slower now and then: an image that is new, the same with another strength, the paper's
  // chain of as many steps. Where options of another method follow, its plans are loaded anew: that comes before.
  const times = { fresh: 0, ahead: 0, kept: 0, paper: 0 };
  for (let round = 0; round < rounds; round += 1) {
    const seed = 2 + round;
    const onStep = () => undefined;
    await model.explain(pixels, { target, seed: 0 });
    times.fresh += (await timed(() => model.explain(pixels, { target, seed, onStep }))).milliseconds;
    await model.invert(pixels, { seed: 100 + seed });
    times.ahead += (await timed(() => model.explain(pixels, { target, seed: 100 + seed, onStep }))).milliseconds;
    times.kept += (await timed(() => model.explain(pixels, { target, strength: 1.6, seed, onStep }))).milliseconds;
    await model.explain(pixels, { target, method: 'paper', steps: 5 });
    times.paper += (await timed(() => model.explain(pixels, { target, method: 'paper', seed, onStep }))).milliseconds;
  }
  const usage = await model.usage();
  const numbers = {
    adapter: model.info.adapter,
    parameters: model.info.parameters,
    load_ms: load.milliseconds,
    first_classify_ms: first.milliseconds,
    steady_classify_ms: steady.milliseconds / repeats,
    first_explain_ms: cold.milliseconds,
    explain_ms: times.fresh / rounds,
    explain_inverted_ms: times.ahead / rounds,
    explain_kept_ms: times.kept / rounds,
    explain_paper_ms: times.paper / rounds,
    explain_steps: steps,
    submits_per_step: submits / steps,
    outside_gpu_share: idle / warm.milliseconds,
    gpu_buffer_bytes: usage.bufferBytes,
    pipelines: usage.pipelines,
    wasm_memory_bytes: usage.wasmBytes,
  };
  await model.dispose();
  return numbers;
}

const parity = JSON.parse(readFileSync(fixture('parity.json'), 'utf8'));
const server = await serve(libraryFolders());
const browser = await launch();
try {
  const context = await browser.newContext();
  const page = await context.newPage();
  const visit = new Visit(page, context, server.url, []);
  /** @type {Set<string>} */
  const loaded = new Set();
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (pathname.startsWith('/dist/')) loaded.add(pathname.slice('/dist/'.length));
  });
  await page.goto(`${server.url}/pages/library.html`);
  await visit.ready();
  const { image, target } = parity.near;
  const numbers = await page.evaluate(measure, { image, target, repeats: REPEATS, rounds: ROUNDS });
  visit.check();
  let [wasm, js] = [0, 0];
  for (const name of loaded) {
    const size = gzipSync(readFileSync(path.join(DIST, name)), { level: 9 }).length;
    if (name.endsWith('.wasm')) wasm += size;
    else js += size;
  }
  const all = { browser: `${engine.title} ${browser.version()}`, ...numbers, files: loaded.size, wasm_gzip_bytes: wasm, js_gzip_bytes: js };
  const width = Math.max(...Object.keys(all).map((key) => key.length));
  for (const [key, value] of Object.entries(all)) {
    const shown = typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(value < 1 ? 4 : 1) : value;
    console.log(`${key.padEnd(width)}  ${shown}`);
  }
  console.log(JSON.stringify(all));
} finally {
  await browser.close();
  await server.close();
}
