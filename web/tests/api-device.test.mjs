/**
 * Devices: the library's own are replaced when they are lost, an embedder's is used and left alone.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryFolders, site, whole } from './browser.mjs';
import { fixture } from './paths.mjs';

const pages = site(libraryFolders);

/** Each device compiles its pipelines anew, and this model has the fewest. */
fixture('tiny-grey-classes.safetensors');

/**
 * Runs in a page of its own: these tests break devices.
 * @param {(argument?: any) => Promise<any>} body
 * @param {{ expected?: RegExp[], webgpu?: boolean }} [options]
 * @param {unknown} [argument]
 */
async function fresh(body, options = {}, argument = undefined) {
  let answer;
  await pages.visit('/pages/library.html', options, async (visit) => {
    await visit.ready();
    answer = await visit.page.evaluate(body, argument);
  });
  return answer;
}

test('a device that is lost is replaced', { timeout: 2 * SLOW }, async () => {
  const got = await fresh(async (guided) => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors');
    const options = { steps: 10, seed: 2, noise: 0.5 };
    const explain = async (more) => (await model.explain(helpers.greys(7, 1), { target: 1, ...options, ...more })).counterfactualValues;
    // A chain that nothing guides needs the fewest pipelines.
    const sample = async (more) => (await model.sample({ steps: 10, seed: 2, ...more }))[0].data;
    const make = guided ? explain : sample;
    const want = await make({});
    const opened = [devices.length];
    // Lost while nothing runs.
    devices.at(-1).destroy();
    const idle = helpers.apart(await make({}), want);
    opened.push(devices.length);
    // Lost in the middle of a chain.
    let lost = false;
    const onStep = ({ done }) => {
      if (done === 3 && !lost) {
        lost = true;
        devices.at(-1).destroy();
      }
    };
    const running = helpers.apart(await make({ onStep }), want);
    opened.push(devices.length);
    await model.dispose();
    const ended = await Promise.race([
      devices.at(-1).lost.then(() => 'destroyed'),
      new Promise((done) => setTimeout(() => done('alive'), 3000)),
    ]);
    return { opened, idle, lost, running, ended };
  }, {}, whole);
  assert.deepEqual(got.opened, [1, 2, 3], 'one device for each loss');
  assert.equal(got.idle, 0, 'lost while idle');
  assert.ok(got.lost && got.running === 0, 'lost in the middle');
  assert.equal(got.ended, 'destroyed', 'dispose frees the device');
});

test('training survives in what a lost device leaves behind', { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors');
    const image = helpers.greys(7, 1);
    const untrained = await model.classify(image);
    const options = { images: [image, image], labels: [0, 0], batchSize: 2, steps: 5, learningRate: 1e-2 };
    await model.train(options);
    const trained = await model.classify(image);
    // Training cannot start over: what it learned is gone.
    let steps = 0;
    const lose = () => {
      steps += 1;
      if (steps === 2) devices.at(-1).destroy();
    };
    const failed = await helpers.failure(model.train({ ...options, onStep: lose }));
    const after = await model.classify(image);
    const list = [untrained, trained, after].map(({ probabilities }) => [...probabilities]);
    await model.dispose();
    return { change: helpers.apart(list[0], list[1]), failed, kept: helpers.apart(list[1], list[2]), opened: devices.length };
  });
  assert.ok(got.change > 1e-3, 'training changed the model');
  assert.equal(got.failed.code, 'device-lost', `${got.failed.name}: ${got.failed.message}`);
  assert.equal(got.opened, 2);
  assert.ok(got.kept < 1e-4, `after a training that lost its device answers differ by ${got.kept}`);
});

test("an embedder's device is used and left alone", { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const own = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors');
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
    const make = async (one) => (await one.sample({ steps: 10, seed: 2 }))[0].data;
    const want = await make(own);
    const model = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors', { device });
    const found = await make(model);
    const between = await helpers.deviceWorks(device);
    await model.dispose();
    const works = await helpers.deviceWorks(device);
    // It serves a second model, too.
    const second = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors', { device });
    const again = await make(second);
    await second.dispose();
    await own.dispose();
    const gpu = Object.getOwnPropertyDescriptor(navigator, 'gpu') === undefined && navigator.gpu instanceof GPU;
    const opened = devices.length;
    return { opened, submitted, apart: helpers.apart(found, want), again: helpers.apart(again, want), between, works, lost, errors, gpu };
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
    const model = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors', { device });
    const image = helpers.greys(7, 1);
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
      const model = await duet.Duet.load('/fixtures/tiny-grey-classes.safetensors');
      // Some needs show only when the first plan is made.
      return await helpers.failure(model.train({ images: [helpers.greys(7), helpers.greys(7)], labels: [0, 1], steps: 1 }));
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
  const load = () => globalThis.helpers.failure(globalThis.duet.Duet.load('/fixtures/tiny-grey-classes.safetensors'));
  const none = await fresh(load, { webgpu: false });
  assert.equal(none.code, 'no-webgpu', none.message);
  assert.equal(none.name, 'NoWebGpuError');
  const adapter = await fresh(async () => {
    const { duet, helpers } = globalThis;
    GPU.prototype.requestAdapter = async () => null;
    return helpers.failure(duet.Duet.load('/fixtures/tiny-grey-classes.safetensors'));
  });
  assert.equal(adapter.code, 'no-adapter', adapter.message);
  assert.equal(adapter.name, 'NoAdapterError');
});
