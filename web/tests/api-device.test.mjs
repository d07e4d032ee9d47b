/**
 * Devices: the library's own are replaced when they are lost, an embedder's is used and left alone.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryFolders, site } from './browser.mjs';

const pages = site(libraryFolders);

/**
 * Runs in a page of its own: these tests break devices.
 * @param {(argument?: any) => Promise<any>} body
 * @param {{ expected?: RegExp[], webgpu?: boolean }} [options]
 */
async function fresh(body, options = {}) {
  let answer;
  await pages.visit('/pages/library.html', options, async (visit) => {
    await visit.ready();
    answer = await visit.page.evaluate(body);
  });
  return answer;
}

test('a device that is lost is replaced', { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.greys(8, 1);
    const options = { target: 1, steps: 10, noise: 0.5, seed: 2 };
    const want = await model.explain(image, options);
    const opened = [devices.length];
    const apart = (answer) => helpers.apart(answer.counterfactualValues, want.counterfactualValues);
    // Lost while nothing runs.
    devices.at(-1).destroy();
    const idle = apart(await model.explain(image, options));
    opened.push(devices.length);
    // Lost in the middle of a chain.
    let lost = false;
    const onStep = ({ done }) => {
      if (done === 3 && !lost) {
        lost = true;
        devices.at(-1).destroy();
      }
    };
    const running = apart(await model.explain(image, { ...options, onStep }));
    opened.push(devices.length);
    devices.at(-1).destroy();
    const { probabilities } = await model.classify(image);
    const classified = helpers.apart(probabilities, want.before.probabilities);
    // Training cannot start over: what it learned is gone.
    let steps = 0;
    const lose = () => {
      steps += 1;
      if (steps === 2) devices.at(-1).destroy();
    };
    const trained = await helpers.failure(
      model.train({ images: [image, image], labels: [0, 1], batchSize: 2, steps: 20, onStep: lose }),
    );
    const after = apart(await model.explain(image, options));
    await model.dispose();
    const ended = await Promise.race([
      devices.at(-1).lost.then(() => 'destroyed'),
      new Promise((done) => setTimeout(() => done('alive'), 3000)),
    ]);
    return { opened, idle, running, classified, trained, after, ended };
  });
  assert.deepEqual(got.opened, [1, 2, 3], 'one device for each loss');
  assert.equal(got.idle, 0, 'lost while idle');
  assert.equal(got.running, 0, 'lost in the middle');
  assert.ok(got.classified < 1e-6);
  assert.equal(got.trained.code, 'device-lost', `${got.trained.name}: ${got.trained.message}`);
  assert.equal(got.after, 0, 'the model is as it was before that training');
  assert.equal(got.ended, 'destroyed', 'dispose frees the device');
});

test('training survives in what a lost device leaves behind', { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.greys(8, 1);
    const untrained = await model.classify(image);
    await model.train({ images: [image, image], labels: [0, 0], batchSize: 2, steps: 5, learningRate: 1e-2 });
    const trained = await model.classify(image);
    devices.at(-1).destroy();
    const after = await model.classify(image);
    const list = [untrained, trained, after].map(({ probabilities }) => [...probabilities]);
    await model.dispose();
    return { change: helpers.apart(list[0], list[1]), kept: helpers.apart(list[1], list[2]) };
  });
  assert.ok(got.change > 1e-3, 'training changed the model');
  assert.ok(got.kept < 1e-4, `after the loss of the device answers differ by ${got.kept}`);
});

test("an embedder's device is used and left alone", { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const own = await duet.Duet.load('/fixtures/tiny.safetensors');
    const devices = helpers.watchDevices();
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter.requestDevice();
    let lost = false;
    device.lost.then(() => (lost = true));
    const errors = [];
    device.addEventListener('uncapturederror', ({ error }) => errors.push(error.message));
    let submitted = 0;
    const { queue } = device;
    const submit = queue.submit;
    queue.submit = function counted(...words) {
      submitted += 1;
      return submit.apply(queue, words);
    };
    const image = helpers.greys(8, 1);
    const options = { target: 1, steps: 10, noise: 0.5, seed: 2 };
    const want = await own.explain(image, options);
    const model = await duet.Duet.load('/fixtures/tiny.safetensors', { device });
    const found = await model.explain(image, options);
    const between = await helpers.deviceWorks(device);
    await model.dispose();
    const works = await helpers.deviceWorks(device);
    // It serves a second model, too.
    const second = await duet.Duet.load('/fixtures/tiny.safetensors', { device });
    const again = await second.explain(image, options);
    await second.dispose();
    const apart = (answer) => helpers.apart(answer.counterfactualValues, want.counterfactualValues);
    await own.dispose();
    const gpu = Object.getOwnPropertyDescriptor(navigator, 'gpu') === undefined && navigator.gpu instanceof GPU;
    const opened = devices.length;
    return { opened, submitted, apart: apart(found), again: apart(again), between, works, lost, errors, gpu };
  });
  assert.equal(got.opened, 1, 'no other device was opened');
  assert.ok(got.submitted > 10, `${got.submitted} submits on the embedder's device`);
  assert.ok(got.apart === 0 && got.again === 0, 'the same answers as on a device of its own');
  assert.ok(got.between && got.works && !got.lost, 'the device works after dispose');
  assert.deepEqual(got.errors, []);
  assert.ok(got.gpu, 'navigator.gpu is as the browser made it');
});

test("an embedder's device that is lost is not replaced", { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny.safetensors', { device });
    const image = helpers.greys(8, 1);
    await model.classify(image);
    device.destroy();
    await device.lost;
    const explained = await helpers.failure(model.explain(image, { target: 1, steps: 5 }));
    const again = await helpers.failure(model.classify(image));
    await model.dispose();
    return { explained, again, opened: devices.length };
  });
  for (const failure of [got.explained, got.again]) {
    assert.equal(failure.code, 'device-lost', `${failure.name}: ${failure.message}`);
    assert.ok(failure.kind && failure.name === 'DeviceLostError');
  }
  assert.equal(got.opened, 0);
});

test('a GPU whose limits are too small is refused by name', { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const small = { maxStorageBufferBindingSize: 4096, maxBufferSize: 4096 };
    for (const { prototype } of [GPUAdapter, GPUDevice]) {
      const limits = Object.getOwnPropertyDescriptor(prototype, 'limits').get;
      Object.defineProperty(prototype, 'limits', {
        get() {
          const real = limits.call(this);
          return new Proxy(real, { get: (_, key) => small[key] ?? real[key] });
        },
      });
    }
    try {
      const model = await duet.Duet.load('/fixtures/tiny.safetensors');
      // Some needs show only when the first plan is made.
      return await helpers.failure(model.train({ images: [helpers.greys(8), helpers.greys(8)], labels: [0, 1], steps: 1 }));
    } catch (error) {
      const { name, code, limit, need, have, message } = error;
      return { name, code, limit, need, have, message };
    }
  });
  assert.equal(got.code, 'limit-too-small', `${got.name}: ${got.message}`);
  if (got.limit !== undefined) {
    assert.match(got.limit, /^max[A-Z]/, "WebGPU's name of the limit");
    assert.ok(got.need > got.have, JSON.stringify(got));
  }
});

test('a browser without WebGPU, and one without a GPU', { timeout: SLOW }, async () => {
  const load = () => globalThis.helpers.failure(globalThis.duet.Duet.load('/fixtures/tiny.safetensors'));
  const none = await fresh(load, { webgpu: false });
  assert.equal(none.code, 'no-webgpu', none.message);
  assert.equal(none.name, 'NoWebGpuError');
  const adapter = await fresh(async () => {
    const { duet, helpers } = globalThis;
    GPU.prototype.requestAdapter = async () => null;
    return helpers.failure(duet.Duet.load('/fixtures/tiny.safetensors'));
  });
  assert.equal(adapter.code, 'no-adapter', adapter.message);
  assert.equal(adapter.name, 'NoAdapterError');
});
