/**
 * What the tests run in Node and in Deno, as a program of a user's would be: `program.mjs FIXTURES [PART…]` prints what it found as one
 * line of JSON. It ends by itself, or something keeps it.
 */

import { readFile } from 'node:fs/promises';
import process from 'node:process';
import * as duet from 'duet-diffusion';
import * as helpers from './helpers.mjs';

globalThis.duet = duet;
const { Duet, DuetWorker } = duet;
const { apart, failure, greys } = helpers;
const folder = process.argv[2];
const json = async (name) => JSON.parse(await readFile(`${folder}/${name}`, 'utf8'));
const tiny = `${folder}/tiny.safetensors`;
/** A sample that asks for few kernels: most of the time is compiling them. */
const FREE = { seed: 5, steps: 4 };

/** One explanation as the library makes it natively. */
async function near({ image, target, options }) {
  const model = await Duet.load(`${folder}/parity.safetensors`);
  const pixels = Float32Array.from(image);
  const told = [];
  const onStep = ({ done, total, curve }) => told.push([done, total, curve.length]);
  const started = performance.now();
  const answer = await model.explain(pixels, { target, ...options, onStep });
  const milliseconds = performance.now() - started;
  const again = [...(await model.classify(pixels)).probabilities];
  await model.dispose();
  return { ...helpers.plainAnswer(answer, told), milliseconds, again };
}

/** The same picture in every form that there is outside of browsers, and what is none. */
async function pictures(model) {
  const levels = greys(8);
  const [rgb, rgba] = [3, 4].map((each) => Uint8Array.from({ length: 64 * each }, (_, i) => (i % each === 3 ? 255 : levels[Math.floor(i / each)])));
  const forms = {
    levels,
    floats: helpers.signed(levels),
    grey: { data: levels, width: 8, height: 8 },
    rgb: { data: rgb, width: 8, height: 8 },
    rgba: { data: rgba, width: 8, height: 8 },
    // What decoders give has methods, too, which do not travel.
    decoded: { data: rgba, width: 8, height: 8, channels: 4, write: () => undefined },
  };
  const want = (await model.classify(levels)).probabilities;
  const far = {};
  for (const [form, image] of Object.entries(forms)) far[form] = apart((await model.classify(image)).probabilities, want);
  const file = await readFile(`${folder}/colour.png`);
  const wrong = {
    'a file': await failure(model.classify(new Blob([file]))),
    "a file's bytes": await failure(model.classify(file)),
    'too few bytes': await failure(model.classify({ data: levels, width: 8, height: 9 })),
    'half a pixel': await failure(model.classify({ data: levels, width: 8.5, height: 8 })),
    'no pixels': await failure(model.classify({ data: new Uint8Array(), width: 0, height: 0 })),
    nothing: await failure(model.classify(undefined)),
  };
  return { far, wrong };
}

/** Pictures of any size and opacity, as the command sees them. */
async function prepared(model) {
  const far = [];
  for (const { width, height, rgba, levels } of await json('pictures.json')) {
    const shown = await model.prepare({ data: Uint8Array.from(rgba), width, height });
    far.push(apart(shown.data.filter((_, i) => i % 4 === 0), levels));
  }
  return far;
}

/** Samples, figures, training and the model as a file. */
async function calls() {
  const model = await Duet.load(tiny);
  const options = { class: [0, 1], seed: 3, steps: 5 };
  const samples = await model.sample(options);
  const again = await model.sample(options);
  const free = await model.sample(FREE);
  const { images, labels } = (await json('evaluations.json')).tiny;
  const levels = images.map((image) => Uint8Array.from(image));
  const evaluation = await model.evaluate(levels, labels, { noiseErrorTimesteps: 4, noiseErrorImages: 11, seed: 9 });
  const shown = { ...(await pictures(model)), prepared: await prepared(model) };
  const steps = [];
  const onStep = ({ done }) => steps.push(done);
  const trained = await model.train({ images: levels.slice(0, 6), labels: labels.slice(0, 6), steps: 4, batchSize: 2, onStep });
  const answers = await model.classifyAll(levels.slice(0, 3));
  const loaded = await Duet.load(await model.export({ dtype: 'f32' }));
  const same = await loaded.classifyAll(levels.slice(0, 3));
  await loaded.dispose();
  return {
    ...shown,
    free: [...free[0].data],
    evaluation,
    adapter: model.info.adapter,
    samples: samples.map(({ data, width, height }) => ({ bytes: data instanceof Uint8ClampedArray, length: data.length, width, height })),
    seeded: Math.max(...samples.map(({ data }, i) => apart(data, again[i].data))),
    distinct: apart(samples[0].data, samples[1].data),
    steps,
    losses: [...trained.losses],
    exported: Math.max(...answers.map(({ probabilities }, i) => apart(probabilities, same[i].probabilities))),
    disposed: await disposed(model),
  };
}

/** A worker that answers as the main thread does. */
async function worker() {
  const model = await DuetWorker.load(tiny);
  const shown = { ...(await pictures(model)), prepared: await prepared(model) };
  const [free] = await model.sample(FREE);
  return { ...shown, free: [...free.data], disposed: await disposed(model) };
}

/** How calls end that run, wait and come late when their model is disposed of. */
async function disposed(model) {
  const image = greys(8);
  let begun;
  const begins = new Promise((done) => (begun = done));
  const running = failure(model.sample({ steps: 200, onStep: () => begun() }));
  const waiting = failure(model.classify(image));
  await begins;
  await model.dispose();
  return [(await running).code, (await waiting).code, (await failure(model.classify(image))).code];
}

/** How loading fails. */
async function causes(kind) {
  const nowhere = new URL('nowhere/duet_web_bg.wasm', import.meta.url);
  return {
    'no model': await failure(duet[kind].load('no-such-model.safetensors')),
    'no address': await failure(duet[kind].load('http://[::1')),
    'no checkpoint': await failure(duet[kind].load(`${folder}/parity.json`)),
    // The module starts once: on this thread it runs already, in a worker of its own it does not.
    ...(kind === 'DuetWorker' && { 'no module': await failure(DuetWorker.load(tiny, { wasm: nowhere })) }),
  };
}

/** Devices of an embedder's, and one that fails as it is opened. */
async function devices() {
  const gpu = globalThis.navigator?.gpu ?? (await import('webgpu')).create([]);
  const device = await (await gpu.requestAdapter()).requestDevice();
  const globals = ['navigator', 'Window', 'GPUDevice', 'ImageData'].map((name) => name in globalThis);
  const model = await Duet.load(tiny, { device });
  const { best } = await model.classify(greys(8));
  await model.dispose();
  const works = await Promise.race([device.lost.then(() => false), device.queue.onSubmittedWorkDone().then(() => true)]);
  const fail = (what) => Object.defineProperty(device, what, { configurable: true, value: () => { throw new Error('the first cause'); } });
  const failures = {};
  for (const what of ['createBuffer', 'pushErrorScope']) {
    fail(what);
    failures[what] = await failure(Duet.load(tiny, { device }));
    delete device[what];
  }
  const other = await Duet.load(tiny, { device });
  const { probabilities } = await other.classify(greys(8));
  await other.dispose();
  device.destroy();
  await device.lost;
  const left = ['navigator', 'Window', 'GPUDevice', 'ImageData'].map((name) => name in globalThis);
  return { best, works, failures, after: probabilities.length, globals, left };
}

/** The check of a device, stopped before its first part. */
async function check() {
  let platform;
  const controller = new AbortController();
  const onProgress = (now) => {
    ({ platform } = now.report);
    controller.abort();
  };
  return { stopped: await failure(Duet.checkDevice({ signal: controller.signal, onProgress })), platform };
}

const parity = await json('parity.json');
const found = {};
for (const [name, part] of Object.entries({
  near: () => near(parity.near),
  calls,
  worker,
  causes: () => causes('Duet'),
  workerCauses: () => causes('DuetWorker'),
  devices,
  check,
})) {
  if (process.argv.length > 3 && !process.argv.slice(3).includes(name)) continue;
  const [started, before] = [performance.now(), process.cpuUsage()];
  found[name] = await part();
  const { user, system } = process.cpuUsage(before);
  console.error(`${name}: ${((performance.now() - started) / 1000).toFixed(1)} s (processors ${((user + system) / 1e6).toFixed(1)} s)`);
}
console.log(JSON.stringify(found));
