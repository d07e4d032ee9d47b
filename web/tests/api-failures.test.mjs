/**
 * Stopping calls, disposing, and everything that a caller or the network may do wrong.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryPage } from './browser.mjs';

const { run, visit } = libraryPage({ model: 'tiny.safetensors', share: true });

/** Fails unless a call failed as expected. */
function failed(name, failure, code, kind) {
  assert.equal(failure.code, code, `${name}: ${failure.name}: ${failure.message}`);
  assert.ok(failure.typed, `${name} fails with a DuetError`);
  if (kind !== undefined) assert.equal(failure.name, kind, name);
  assert.ok(failure.kind, `${name}: ${failure.name} is one of the library's classes`);
  assert.ok(failure.message.length > 4, `${name} has a message`);
}

for (const kind of ['Duet', 'DuetWorker']) {
  test(`${kind}: calls stop when asked to`, { timeout: SLOW }, async () => {
    const got = await run(async (name) => {
      const { duet, helpers } = globalThis;
      const address = '/fixtures/tiny.safetensors';
      const model = await duet[name].load(address);
      const image = helpers.greys(8);
      const images = [0, 1, 2].map((i) => helpers.greys(8, i));
      const want = await model.classify(image);
      const calls = {
        classify: (options) => model.classify(image, options),
        explain: (options) => model.explain(image, { target: 1, steps: 100, noise: 1, ...options }),
        sample: (options) => model.sample({ class: 1, steps: 100, ...options }),
        train: (options) => model.train({ images, labels: [0, 1, 2], steps: 100, batchSize: 3, ...options }),
        load: async (options) => (await duet[name].load(address, options)).dispose(),
      };
      const [before, during] = [{}, {}];
      for (const [call, make] of Object.entries(calls)) {
        before[call] = await helpers.failure(make({ signal: AbortSignal.abort() }));
        if (call === 'classify') continue;
        const controller = new AbortController();
        const { signal } = controller;
        let steps = 0;
        const onStep = () => {
          steps += 1;
          if (steps === 2) controller.abort();
        };
        const options = call === 'load' ? { signal, onProgress: () => controller.abort() } : { signal, onStep };
        during[call] = { ...(await helpers.failure(make(options))), steps };
        during[call].after = helpers.apart((await model.classify(image)).probabilities, want.probabilities);
      }
      // Stopped while it waits for its turn.
      const controller = new AbortController();
      const first = model.sample({ steps: 5 });
      const waiting = helpers.failure(model.sample({ steps: 5, signal: controller.signal }));
      controller.abort();
      const queued = await waiting;
      const length = (await first).length;
      await model.dispose();
      return { before, during, queued, length };
    }, kind);
    for (const [call, failure] of Object.entries(got.before)) failed(`${call} before`, failure, 'aborted', 'AbortedError');
    for (const [call, { steps, after, ...failure }] of Object.entries(got.during)) {
      failed(`${call} meanwhile`, failure, 'aborted', 'AbortedError');
      assert.ok(steps < 50, `${call} went on for ${steps} steps`);
      // Steps of training that were taken stay taken.
      if (call === 'explain' || call === 'sample') assert.equal(after, 0, `the model works after ${call}`);
    }
    failed('a waiting call', got.queued, 'aborted', 'AbortedError');
    assert.equal(got.length, 1);
  });

  test(`${kind}: nothing works after dispose`, { timeout: SLOW }, async () => {
    const got = await run(async (name) => {
      const { duet, helpers } = globalThis;
      const model = await duet[name].load('/fixtures/tiny.safetensors');
      const image = helpers.greys(8);
      let begun;
      const begins = new Promise((done) => (begun = done));
      const running = helpers.failure(model.explain(image, { target: 1, steps: 200, noise: 1, onStep: () => begun() }));
      await begins;
      await model.dispose();
      await model.dispose();
      const calls = {
        classify: () => model.classify(image),
        classifyAll: () => model.classifyAll([image]),
        sample: () => model.sample(),
        explain: () => model.explain(image, { target: 1 }),
        train: () => model.train({ images: [image, image], labels: [0, 1] }),
        export: () => model.export(),
        estimate: () => model.estimate(),
        usage: () => model.usage(),
        selfTest: () => model.selfTest(),
      };
      const after = {};
      for (const [call, make] of Object.entries(calls)) after[call] = await helpers.failure(make);
      return { running: await running, after, imageSize: model.info.imageSize };
    }, kind);
    failed('a running call', got.running, 'disposed', 'DuetError');
    for (const [call, failure] of Object.entries(got.after)) failed(call, failure, 'disposed');
    assert.equal(got.imageSize, 8, 'what is known of the model stays known');
  });

  test(`${kind}: files that are no checkpoints`, { timeout: SLOW }, async () => {
    (await visit()).expected.push(/404/);
    const got = await run(async (name) => {
      const { duet, helpers } = globalThis;
      const bytes = new Uint8Array(await (await fetch('/fixtures/tiny.safetensors')).arrayBuffer());
      const foreign = new Uint8Array(await (await fetch('/fixtures/mnist28_c32.safetensors')).arrayBuffer());
      const noise = new Uint8Array(50_000);
      crypto.getRandomValues(noise);
      // Says that its header is longer than any file.
      const giant = bytes.slice();
      giant.fill(255, 0, 8);
      const header = bytes.slice();
      header.fill(120, 8, 60);
      const sources = {
        empty: new Uint8Array(),
        short: bytes.slice(0, 5),
        'cut in the header': bytes.slice(0, 300),
        'cut in half': bytes.slice(0, bytes.length / 2),
        'cut by one byte': bytes.slice(0, -1),
        random: noise,
        giant,
        header,
        foreign,
        page: await (await fetch('/pages/bare.html')).blob(),
      };
      const failures = {};
      for (const [kind, source] of Object.entries(sources)) {
        failures[kind] = await helpers.failure(duet[name].load(source));
      }
      const missing = await helpers.failure(duet[name].load('/fixtures/none.safetensors'));
      const nowhere = await helpers.failure(duet[name].load('http://[::1'));
      const good = await duet[name].load(bytes);
      const { best } = await good.classify(helpers.greys(8));
      await good.dispose();
      return { failures, missing, nowhere, best };
    }, kind);
    for (const [name, failure] of Object.entries(got.failures)) {
      failed(name, failure, 'bad-checkpoint', 'BadCheckpointError');
    }
    failed('a missing file', got.missing, 'network');
    // An address that is none: either way of putting it is true.
    assert.ok(['network', 'bad-input'].includes(got.nowhere.code), JSON.stringify(got.nowhere));
    assert.ok(got.best >= 0);
  });

  test(`${kind}: arguments that make no sense`, { timeout: SLOW }, async () => {
    const got = await run(async (name) => {
      const { duet, helpers } = globalThis;
      const model = await duet[name].load('/fixtures/tiny.safetensors');
      const image = helpers.greys(8);
      const images = [image, image];
      const labels = [0, 1];
      const explain = (options, input = image) => () => model.explain(input, { target: 1, steps: 5, ...options });
      const sample = (options) => () => model.sample({ steps: 5, ...options });
      const train = (options) => () => model.train({ images, labels, steps: 1, batchSize: 2, ...options });
      const calls = {
        'too few values': () => model.classify(new Float32Array(63)),
        'too many values': () => model.classify(new Uint8Array(3 * 64)),
        'not a number': () => model.classify(new Float32Array(64).fill(NaN)),
        'nothing at all': () => model.classify(undefined),
        'a text': () => model.classify('image.png'),
        'an empty canvas': () => model.classify(Object.assign(document.createElement('canvas'), { width: 0 })),
        'a picture not loaded': () => model.classify(new Image()),
        'target too large': explain({ target: 3 }),
        'target below zero': explain({ target: -1 }),
        'half a target': explain({ target: 0.5 }),
        'target not a number': explain({ target: NaN }),
        'no such name': explain({ target: 'purple' }),
        'no target': explain({ target: undefined }),
        'no noise': explain({ noise: 0 }),
        'too much noise': explain({ noise: 1.5 }),
        'noise not a number': explain({ noise: NaN }),
        'no steps': explain({ steps: 0 }),
        'half a step': explain({ steps: 2.5 }),
        'too many steps': explain({ steps: 5000 }),
        'steps as a text': explain({ steps: 'many' }),
        'a strange alpha': explain({ alpha: Infinity }),
        'a seed below zero': explain({ seed: -1 }),
        'half a seed': explain({ seed: 0.5 }),
        'a huge seed': explain({ seed: 2 ** 60 }),
        'a strange eta': explain({ eta: -1 }),
        'a mask of another size': explain({ mask: new Float32Array(63) }),
        'an image of another size': explain({}, new Float32Array(63)),
        'a class too large': sample({ class: 3 }),
        'a class among others': sample({ class: [0, 1, 7] }),
        'two classes, three images': sample({ class: [0, 1], count: 3 }),
        'no images': sample({ count: 0 }),
        'half an image': sample({ count: 1.5 }),
        'nothing to train on': train({ images: [], labels: [] }),
        'a label too few': train({ labels: [0] }),
        'a strange label': train({ labels: [0, 9] }),
        'batches of one': train({ batchSize: 1 }),
        'a negative rate': train({ learningRate: -1 }),
        'no steps of training': train({ steps: 0 }),
        'a strange batch': () => model.estimate({ batch: 0 }),
      };
      const failures = {};
      for (const [call, make] of Object.entries(calls)) failures[call] = await helpers.failure(make);
      const { best } = await model.classify(image);
      await model.dispose();
      return { failures, best };
    }, kind);
    const wrong = Object.entries(got.failures).filter(([, f]) => f.code !== 'bad-input' || f.name !== 'BadInputError');
    const shown = wrong.map(([call, { code, message }]) => `${call}: ${code}: ${message}`);
    assert.deepEqual(shown, [], 'each of them is a BadInputError');
    assert.ok(got.best >= 0, 'the model works after all of it');
  });
}

test('a caller whose own function fails hears of it, and the model works on', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const image = helpers.greys(8);
    const want = await model.classify(image);
    const onStep = () => {
      throw new Error('mine');
    };
    const failure = await helpers.failure(model.explain(image, { target: 1, steps: 10, noise: 0.5, onStep }));
    const again = await model.classify(image);
    return { failure, apart: helpers.apart(again.probabilities, want.probabilities) };
  });
  assert.match(got.failure.message, /mine/);
  assert.equal(got.apart, 0);
});
