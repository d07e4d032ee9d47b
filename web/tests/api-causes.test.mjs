/**
 * What went wrong is what the caller hears: the first cause, of its own kind; numbers that are none are never an answer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryFolders, libraryPage, site, unlessWhole } from './browser.mjs';
import { fixture } from './paths.mjs';

const pages = site(libraryFolders);
const { run } = libraryPage();
/** For causes that are no device's. */
const { run: runShared } = libraryPage({ share: true });

/**
 * Runs in a page of its own, whose browser is first changed by `stub`, in workers too.
 * @param {() => void} stub
 * @param {(argument?: any) => Promise<any>} body
 * @param {unknown} [argument]
 */
async function stubbed(stub, body, argument) {
  let answer;
  await pages.visit('/pages/library.html', { stub }, async (visit) => {
    await visit.ready();
    answer = await visit.page.evaluate(body, argument);
  });
  return answer;
}

/** A worker's pipelines are compiled anew for each test. @param {string} kind */
const skip = (kind) => kind === 'DuetWorker' && unlessWhole('a worker compiles its pipelines anew, and says what the main thread does');

/** In the page: how loading fails, or that it waits for ever. */
const load = (/** @type {string} */ kind) =>
  Promise.race([
    globalThis.helpers.failure(globalThis.duet[kind].load('/fixtures/tiny.safetensors')),
    new Promise((done) => setTimeout(() => done({ code: 'none', message: 'it waits for ever' }), 30_000)),
  ]);

const CAUSES = {
  'no device is given': {
    stub: () => (GPUAdapter.prototype.requestDevice = () => Promise.reject(new Error('the first cause'))),
    code: 'no-adapter',
  },
  'asking for a device throws': {
    stub: () => {
      GPUAdapter.prototype.requestDevice = () => {
        throw new Error('the first cause');
      };
    },
    code: 'no-adapter',
  },
  'a buffer cannot be made': {
    stub: () => {
      GPUDevice.prototype.createBuffer = () => {
        throw new RangeError('the first cause');
      };
    },
    code: 'internal',
  },
  'an exception passes through the module': {
    stub: () => {
      GPUDevice.prototype.pushErrorScope = () => {
        throw new Error('the first cause');
      };
    },
    code: 'internal',
  },
};

for (const kind of ['Duet', 'DuetWorker']) {
  for (const [name, { stub, code }] of Object.entries(CAUSES)) {
    test(`${kind}: the first cause is told where ${name}`, { timeout: SLOW }, async () => {
      const failure = await stubbed(stub, load, kind);
      assert.equal(failure.code, code, failure.message);
      assert.match(failure.message, /the first cause/);
      assert.doesNotMatch(failure.message, /recursive use|\n/);
    });
  }
}

test('a model that broke says so at every call, and goes', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const other = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.greys(8);
    const { createBuffer } = GPUDevice.prototype;
    GPUDevice.prototype.createBuffer = () => {
      throw new RangeError('the first cause');
    };
    const failures = [await helpers.failure(model.explain(image, { target: 1, steps: 4 }))];
    GPUDevice.prototype.createBuffer = createBuffer;
    failures.push(await helpers.failure(model.classify(image)), await helpers.failure(model.selfTest()));
    const { best } = await other.classify(image);
    await model.dispose();
    await other.dispose();
    const destroyed = await Promise.race([
      devices[0].lost.then(({ reason }) => reason),
      new Promise((done) => setTimeout(() => done('alive'), 3000)),
    ]);
    return { failures, best, destroyed };
  });
  for (const { code, message } of got.failures) {
    assert.equal(code, 'internal', message);
    assert.match(message, /the first cause/);
  }
  assert.ok(got.best >= 0, 'another model works on');
  assert.equal(got.destroyed, 'destroyed', 'its device is freed');
});

test("an error of the caller's own while a model loads is not the network's", { timeout: SLOW }, async () => {
  for (const kind of ['Duet', 'DuetWorker']) {
    const failure = await run(async (kind) => {
      const { duet, helpers } = globalThis;
      const onProgress = () => {
        throw new RangeError('mine');
      };
      return helpers.failure(duet[kind].load('/fixtures/tiny.safetensors', { onProgress }));
    }, kind);
    assert.deepEqual([failure.name, failure.message, failure.typed], ['RangeError', 'mine', false], kind);
  }
});

test('the adapter that is named is the one that is used', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet } = globalThis;
    const { requestAdapter } = GPU.prototype;
    const used = [];
    let asked = 0;
    // Two GPUs, offered in turn, each with a name of its own.
    GPU.prototype.requestAdapter = async function offer(...words) {
      const adapter = await requestAdapter.apply(this, words);
      const name = `GPU number ${(asked += 1)}`;
      Object.defineProperty(adapter, 'info', { value: { vendor: 'test', architecture: '', device: '', description: name } });
      const { requestDevice } = adapter;
      adapter.requestDevice = async (...wanted) => {
        const device = await requestDevice.apply(adapter, wanted);
        Object.defineProperty(device, 'adapterInfo', { value: adapter.info });
        used.push(name);
        return device;
      };
      return adapter;
    };
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const named = [model.info.adapter];
    await model.dispose();
    GPU.prototype.requestAdapter = requestAdapter;
    return { named, used, asked };
  });
  assert.deepEqual(got, { named: ['GPU number 1'], used: ['GPU number 1'], asked: 1 });
});

test('an adapter that the browser does not name has words all the same', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet } = globalThis;
    const told = Object.getOwnPropertyDescriptor(GPUDevice.prototype, 'adapterInfo');
    const info = { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: true };
    Object.defineProperty(GPUDevice.prototype, 'adapterInfo', { ...told, get: () => info });
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const { adapter } = model.info;
    await model.dispose();
    Object.defineProperty(GPUDevice.prototype, 'adapterInfo', told);
    return adapter;
  });
  assert.equal(got, 'a device that the browser does not name');
});

for (const kind of ['Duet', 'DuetWorker']) {
  test(`${kind}: after the loss of a device the new one's adapter is named`, { timeout: SLOW, skip: skip(kind) }, async () => {
    const stub = () => {
      const { requestDevice } = GPUAdapter.prototype;
      let opened = 0;
      GPUAdapter.prototype.requestDevice = async function named(...words) {
        const device = await requestDevice.apply(this, words);
        const description = `GPU number ${(opened += 1)}`;
        Object.defineProperty(device, 'adapterInfo', { value: { vendor: '', architecture: '', description } });
        // When the page says so, in a worker, too.
        if (opened === 1) new BroadcastChannel('lose').onmessage = () => device.destroy();
        return device;
      };
    };
    const got = await stubbed(
      stub,
      async (kind) => {
        const { duet, helpers } = globalThis;
        const model = await duet[kind].load('/fixtures/tiny.safetensors');
        const before = model.info.adapter;
        new BroadcastChannel('lose').postMessage('');
        await new Promise((done) => setTimeout(done, 500));
        await model.classify(helpers.greys(8));
        const after = model.info.adapter;
        await model.dispose();
        return [before, after];
      },
      kind,
    );
    assert.deepEqual(got, ['GPU number 1', 'GPU number 2']);
  });
}

test('memory to read through that is not there is out of memory, not a lost device', { timeout: SLOW }, async () => {
  const got = await runShared(async () => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.greys(8);
    const want = await model.classify(image);
    const { createBuffer, popErrorScope } = GPUDevice.prototype;
    const { mapAsync } = GPUBuffer.prototype;
    const failures = [];
    // Found out when it is mapped.
    GPUBuffer.prototype.mapAsync = () => Promise.reject(new DOMException('mapping failed', 'OperationError'));
    failures.push(await helpers.failure(model.classify(image)));
    GPUBuffer.prototype.mapAsync = mapAsync;
    // Found out when it is made.
    let failed = 0;
    GPUDevice.prototype.createBuffer = function full(descriptor) {
      if (descriptor.usage & GPUBufferUsage.MAP_READ) failed += 1;
      return createBuffer.call(this, descriptor);
    };
    GPUDevice.prototype.popErrorScope = async function told() {
      const found = await popErrorScope.call(this);
      if (failed === 0) return found;
      failed = 0;
      return new GPUOutOfMemoryError('no memory to map');
    };
    failures.push(await helpers.failure(model.predictNoise([image], 10)), await helpers.failure(model.classifyAll([image, image])));
    Object.assign(GPUDevice.prototype, { createBuffer, popErrorScope });
    const again = await model.classify(image);
    await model.dispose();
    return { failures, apart: helpers.apart(again.probabilities, want.probabilities) };
  });
  for (const { code, name, message } of got.failures) {
    assert.equal(code, 'out-of-memory', `${name}: ${message}`);
    assert.equal(name, 'OutOfMemoryError');
  }
  assert.equal(got.apart, 0, 'the model works on');
});

for (const kind of ['Duet', 'DuetWorker']) {
  test(`${kind}: answers that are no numbers are errors`, { timeout: SLOW, skip: skip(kind) }, async () => {
    fixture('broken.safetensors');
    const got = await runShared(async (kind) => {
      const { duet, helpers } = globalThis;
      const image = helpers.greys(8);
      const broken = await duet[kind].load('/fixtures/broken.safetensors');
      const calls = {
        classify: await helpers.failure(broken.classify(image)),
        'classify several': await helpers.failure(broken.classifyAll([image, image])),
        explain: await helpers.failure(broken.explain(image, { target: 1, steps: 4, noise: 0.5 })),
        sample: await helpers.failure(broken.sample({ class: 1, steps: 3 })),
        train: await helpers.failure(broken.train({ images: [image, image], labels: [0, 1], steps: 2, batchSize: 2 })),
      };
      await broken.dispose();
      return calls;
    }, kind);
    for (const [call, { code, name, message }] of Object.entries(got)) {
      assert.equal(code, 'not-finite', `${call}: ${name}: ${message}`);
      assert.equal(name, 'DuetError');
    }
  });
}

test('whoever disposes waits for the same end; a running call hears of it', { timeout: SLOW }, async () => {
  for (const kind of ['Duet', 'DuetWorker']) {
    const got = await runShared(async (kind) => {
      const { duet, helpers } = globalThis;
      const model = await duet[kind].load('/fixtures/tiny.safetensors');
      const images = Array.from({ length: 400 }, (_, i) => helpers.greys(8, i));
      await model.classify(images[0]);
      const calls = [model.classifyAll(images), model.explain(images[0], { target: 1, steps: 50, noise: 1 })];
      const ends = calls.map((call) => helpers.failure(call));
      // The first of them runs by then.
      await new Promise((done) => setTimeout(done, 30));
      const order = [];
      await Promise.all([model.dispose().then(() => order.push(1)), model.dispose().then(() => order.push(2))]);
      const failures = await Promise.all(ends);
      return { codes: failures.map(({ code }) => code), order, late: (await helpers.failure(model.prepare(images[0]))).code };
    }, kind);
    assert.deepEqual(got, { codes: ['disposed', 'disposed'], order: [1, 2], late: 'disposed' }, kind);
  }
});
