/**
 * Training in the page, and writing the model to a file.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryPage, unlessWhole } from './browser.mjs';

const { run } = libraryPage({ model: 'tiny.safetensors', share: true });

/** @param {number[]} list */
const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;

test('training lowers the loss and changes the answers', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    // Dark, grey and light pictures, two of each.
    const images = [20, 40, 120, 140, 220, 240].map((level, i) =>
      helpers.greys(8, i).map((grey) => level + (grey % 16)),
    );
    const labels = [0, 0, 'grey', 'grey', 2, 2];
    const before = await model.classifyAll(images);
    const steps = [];
    const options = { images, labels, batchSize: 6, learningRate: 3e-3, classifierLossScaling: 1, seed: 1 };
    const result = await model.train({ ...options, steps: 30, onStep: (step) => steps.push(step) });
    const after = await model.classifyAll(images);
    return {
      steps,
      result: { ...result, losses: [...result.losses] },
      before: before.map(({ probabilities }) => [...probabilities]),
      after: after.map(({ probabilities }) => [...probabilities]),
      best: after.map(({ best }) => best),
    };
  });
  assert.equal(got.result.steps, 30);
  assert.equal(got.result.losses.length, 30);
  assert.deepEqual(got.steps.map(({ done, total }) => [done, total]), got.steps.map((_, i) => [i + 1, 30]));
  assert.deepEqual(got.steps.map(({ loss }) => Math.fround(loss)), got.result.losses);
  got.steps.forEach(({ loss, mse, classifierLoss }) => {
    assert.ok(Math.abs(loss - mse - classifierLoss) <= 1e-3 * loss, 'the loss is the sum of its parts');
  });
  const [first, last] = [mean(got.result.losses.slice(0, 8)), mean(got.result.losses.slice(-8))];
  console.log(`loss ${first.toFixed(3)} → ${last.toFixed(3)}; decisions ${got.best}`);
  assert.ok(last < first, `the loss went from ${first} to ${last}`);
  assert.notDeepEqual(got.after, got.before);
});

test('unlabelled images count for the noise error only', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const images = [0, 1].map((i) => helpers.greys(8, i));
    const steps = [];
    await model.train({ images, labels: [null, null], steps: 2, batchSize: 2, onStep: (step) => steps.push(step) });
    return steps;
  });
  assert.equal(got.length, 2);
  got.forEach(({ loss, mse, classifierLoss }) => {
    assert.ok(classifierLoss === 0 && Math.abs(loss - mse) <= 1e-6 * loss, JSON.stringify({ loss, mse, classifierLoss }));
  });
});

test('an exported model gives the same answers', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers, model } = globalThis;
    const images = [0, 1, 2].map((i) => helpers.greys(8, i));
    const want = await model.classifyAll(images);
    const sample = await model.sample({ class: 1, steps: 3 });
    const read = async (dtype) => {
      const bytes = await model.export(dtype === undefined ? undefined : { dtype });
      const loaded = await duet.Duet.load(bytes);
      const answers = await loaded.classifyAll(images);
      const again = await loaded.sample({ class: 1, steps: 3 });
      const { info } = loaded;
      await loaded.dispose();
      const apart = Math.max(...answers.map((a, i) => helpers.apart(a.probabilities, want[i].probabilities)));
      return { apart, size: bytes.length, pixels: helpers.apart(again[0].data, sample[0].data), info };
    };
    return { f32: await read('f32'), f16: await read('f16'), fallback: await read(undefined), info: model.info };
  });
  assert.equal(got.f32.apart, 0);
  assert.equal(got.f32.pixels, 0);
  assert.deepEqual(got.f32.info, got.info);
  assert.ok(got.f16.apart < 0.02, `f16 answers differ by ${got.f16.apart}`);
  assert.ok(got.f16.size < 0.65 * got.f32.size, `${got.f16.size} and ${got.f32.size} bytes`);
  assert.equal(got.fallback.size, got.f16.size, 'f16 by default');
});

test('a worker trains and exports as well', { timeout: SLOW, skip: unlessWhole('a worker compiles its pipelines anew, and api-recipe trains in one') }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const images = [0, 1, 2].map((i) => helpers.canvas(helpers.picture(helpers.greys(8, i), 8)));
    const options = { images, labels: [0, 1, 2], steps: 3, batchSize: 3, learningRate: 1e-3, seed: 4 };
    const answers = {};
    for (const kind of ['Duet', 'DuetWorker']) {
      const model = await duet[kind].load('/fixtures/tiny.safetensors');
      const steps = [];
      const { losses } = await model.train({ ...options, onStep: ({ done }) => steps.push(done) });
      const bytes = await model.export({ dtype: 'f32' });
      const usage = await model.usage();
      const estimate = await model.estimate();
      answers[kind] = { steps, losses: [...losses], bytes: [...bytes], weights: estimate.weights, used: usage.bufferBytes > 0 };
      await model.dispose();
    }
    return answers;
  });
  assert.deepEqual(got.DuetWorker, got.Duet);
  assert.deepEqual(got.Duet.steps, [1, 2, 3]);
});

test('training goes on where it stopped: two halves are a whole', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const images = [0, 1, 2, 3, 4].map((i) => helpers.greys(8, i));
    const options = { images, labels: [0, 1, 2, 0, null], batchSize: 2, learningRate: 1e-3, seed: 3 };
    const notes = [];
    const losses = async (...parts) => {
      const model = await duet.Duet.load('/fixtures/tiny.safetensors');
      const all = [];
      for (const steps of parts) all.push(...(await model.train({ ...options, steps })).losses);
      notes.push(model.info.info['trained further']);
      await model.dispose();
      return all;
    };
    const [whole, halves, other] = [await losses(6), await losses(3, 3), await losses(3)];
    return { whole, halves, other, notes };
  });
  assert.equal(got.whole.length, 6);
  assert.deepEqual(got.halves, got.whole, 'the same noise, timesteps and order');
  assert.deepEqual(got.notes.map((note) => note.split(' ')[0]), ['6', '6', '3'], 'the file says how far it was trained');
  assert.notDeepEqual(got.whole.slice(3), got.other, 'the second half is not the first again');
});
