/**
 * Evaluations: the figures that the library computes natively, images that come one after the other, and what may go wrong.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, libraryPage, unlessWhole } from './browser.mjs';
import { assertReport } from './evaluations.mjs';
import { fixture } from './paths.mjs';

const { run } = libraryPage({ model: 'tiny.safetensors', share: true });
const { tiny } = JSON.parse(readFileSync(fixture('evaluations.json'), 'utf8'));

for (const kind of ['Duet', 'DuetWorker']) {
  const skip = kind === 'DuetWorker' && unlessWhole('a worker compiles its pipelines anew; the page measures in one, in demo-measure');
  test(`${kind}: figures are the native ones, wherever images come from`, { timeout: SLOW, skip }, async () => {
    const got = await run(async ({ kind: name, images, labels }) => {
      const model = await globalThis.duet[name].load('/fixtures/tiny.safetensors');
      const told = [];
      const options = { noiseErrorTimesteps: 4, noiseErrorImages: 11, seed: 9 };
      const pictures = images.map((levels) => Uint8Array.from(levels));
      const asked = [];
      async function* slowly() {
        for (const [i, picture] of pictures.entries()) {
          asked.push([i, told.at(-1)?.done ?? 0]);
          await new Promise((done) => setTimeout(done));
          yield picture;
        }
      }
      const list = await model.evaluate(pictures, labels, { ...options, onProgress: (state) => told.push(state) });
      const heard = told.splice(0);
      // Names in any case, images one by one, other batches of pictures that cannot be read between them.
      const names = labels.map((label) => ['DARK', ' grey', 'Light'][label]);
      const source = await model.evaluate(slowly(), names, { ...options, onProgress: (state) => told.push(state) });
      const bytes = await model.evaluate(new Set(pictures), Uint8Array.from(labels), options);
      const short = await model.evaluate(pictures, labels, { noiseErrorTimesteps: 0 });
      const fallback = await model.evaluate(pictures.slice(0, 3), labels.slice(0, 3));
      const best = (await model.classifyAll(pictures)).map((answer) => answer.best);
      await model.dispose();
      const ahead = Math.max(...asked.map(([i, done]) => i - done));
      return { list, source, bytes, short, fallback, heard, ahead, best };
    }, { kind, ...tiny });
    assertReport(got.list, tiny.report);
    assert.deepEqual(got.source, got.list, 'one after the other');
    assert.deepEqual(got.bytes, got.list, 'of any kind of list');
    assert.deepEqual(got.list.unreadable, []);
    assert.equal(got.list.noiseErrorImages, 11);
    assert.deepEqual(got.list.perClass.map((one) => one.class), ['dark', 'grey', 'light']);
    assert.deepEqual(got.heard, [8, 16, 24, 30].map((done) => ({ done, total: 30 })));
    assert.ok(got.ahead <= 16, `${got.ahead} images were asked for ahead of their turn`);
    assert.equal(got.list.accuracy, got.best.filter((best, i) => best === tiny.labels[i]).length / 30, 'what classify says');
    assert.deepEqual([got.short.noiseError, got.short.noiseErrorImages, got.short.ece], [[], 0, got.list.ece]);
    assert.doesNotMatch(got.short.protocol, /[Nn]oise/);
    assert.deepEqual(got.fallback.noiseError.map(({ timestep }) => timestep), [50, 150, 250, 350, 450, 550, 650, 750, 850, 950]);
    assert.equal(got.fallback.noiseErrorImages, 3);
  });

  test(`${kind}: what does not fit is refused, and the model goes on`, { timeout: SLOW, skip }, async () => {
    const got = await run(async ({ kind: name, images, labels }) => {
      const { duet, helpers } = globalThis;
      const model = await duet[name].load('/fixtures/tiny.safetensors');
      const several = await duet[name].load('/fixtures/tiny-grey-labels.safetensors');
      const pictures = images.map((levels) => Uint8Array.from(levels));
      const [two, classes] = [pictures.slice(0, 2), labels.slice(0, 2)];
      const broken = [two[0], new File([Uint8Array.of(1, 2, 3)], 'broken.png'), two[1]];
      let closed = 0;
      function* source(count) {
        try {
          for (let i = 0; i < count; i += 1) yield pictures[i % pictures.length];
        } finally {
          closed += 1;
        }
      }
      function* failing() {
        yield two[0];
        throw new RangeError('the disk is gone');
      }
      const controller = new AbortController();
      const stop = { signal: controller.signal, onProgress: ({ done }) => done >= 16 && controller.abort() };
      const stuck = new AbortController();
      setTimeout(() => stuck.abort(), 200);
      async function* never() {
        await new Promise(() => undefined);
        yield two[0];
      }
      const calls = {
        none: () => model.evaluate([], []),
        counts: () => model.evaluate(two, [0]),
        fewer: () => model.evaluate(source(2), [0, 1, 2]),
        more: () => model.evaluate(source(9), labels.slice(0, 4)),
        label: () => model.evaluate(two, [0, 3]),
        name: () => model.evaluate(two, ['dark', 'purple']),
        nothing: () => model.evaluate(two, [0, null]),
        noList: () => model.evaluate(two[0].length, classes),
        noLabels: () => model.evaluate(two, 'no'),
        size: () => model.evaluate([two[0], new Uint8Array(5)], classes),
        kind: () => model.evaluate([two[0], { a: 1 }], classes),
        unreadable: () => model.evaluate(broken, [0, 1, 2]),
        allUnreadable: () => model.evaluate([broken[1]], [0], { skipUnreadable: true }),
        timesteps: () => model.evaluate(two, classes, { noiseErrorTimesteps: 1001 }),
        noiseImages: () => model.evaluate(two, classes, { noiseErrorImages: 0 }),
        seed: () => model.evaluate(two, classes, { seed: -1 }),
        several: () => several.evaluate([new Uint8Array(100)], [0]),
        before: () => model.evaluate(two, classes, { signal: AbortSignal.abort() }),
        during: () => model.evaluate(source(30), labels, stop),
        waiting: () => model.evaluate(never(), classes, { signal: stuck.signal }),
      };
      const failures = {};
      for (const [call, make] of Object.entries(calls)) failures[call] = await helpers.failure(make());
      const own = [];
      for (const make of [() => model.evaluate(failing(), classes), () => model.evaluate(two, classes, { onProgress: () => { throw new RangeError('mine'); } })]) {
        own.push(await make().then(() => 'none', (error) => `${error.name}: ${error.message}`));
      }
      const skipped = await model.evaluate(broken, [0, 1, 2], { skipUnreadable: true, noiseErrorTimesteps: 1 });
      const only = await model.evaluate(two, [0, 2], { noiseErrorTimesteps: 1 });
      const usage = async () => (await model.usage()).heapBytes;
      await model.evaluate(two, classes);
      const heap = await usage();
      await helpers.failure(model.evaluate(source(30), labels, { onProgress: () => { throw new Error(); } }));
      const grown = (await usage()) - heap;
      await Promise.all([model.dispose(), several.dispose()]);
      return { failures, own, skipped, only, closed, grown };
    }, { kind, ...tiny });
    const want = {
      none: /no images/,
      counts: /1 labels for 2 images/,
      fewer: /3 labels for 2 images/,
      more: /4 labels, and more images/,
      label: /label 1 .*no class 3; there are: dark, grey, light/,
      name: /label 1 .*no class "purple"/,
      nothing: /label 1 .*no class null/,
      noList: /images must be a list/,
      noLabels: /labels must be a list/,
      size: /image 1 .*5 values/,
      kind: /image 1 .*must be a file/,
      unreadable: /image 1 .*broken\.png/,
      allUnreadable: /no image can be read: .*broken\.png/,
      timesteps: /noiseErrorTimesteps must be a whole number from 0 to 1000, is 1001/,
      noiseImages: /noiseErrorImages must be a whole number from 1/,
      seed: /seed must be/,
      several: /several labels one by one/,
    };
    for (const [call, failure] of Object.entries(got.failures)) {
      assert.equal(failure.code, call in want ? 'bad-input' : 'aborted', `${call}: ${failure.name}: ${failure.message}`);
      assert.ok(failure.typed && failure.kind, call);
      if (call in want) assert.match(failure.message, want[call], call);
    }
    assert.deepEqual(got.own, ['RangeError: the disk is gone', 'RangeError: mine'], "the caller's own errors");
    assert.equal(got.skipped.images, 2);
    assert.deepEqual(got.skipped.unreadable.map(({ index }) => index), [1]);
    assert.match(got.skipped.unreadable[0].message, /broken\.png/);
    const { unreadable: _, ...rest } = got.skipped;
    assert.deepEqual(rest, (({ unreadable: __, ...other }) => other)(got.only), 'the figures of those that can be read');
    assert.ok(got.closed >= 3, 'sources hear that no more is wanted');
    assert.ok(got.grown <= 0, `an evaluation that was stopped leaves ${got.grown} bytes`);
  });
}

test('an evaluation goes on where the device was lost', { timeout: SLOW, skip: unlessWhole('two devices compile; api-device loses others') }, async () => {
  const got = await run(async ({ images, labels }) => {
    const { duet, helpers } = globalThis;
    const devices = helpers.watchDevices();
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const pictures = images.map((levels) => Uint8Array.from(levels));
    let lost = 0;
    const options = { noiseErrorTimesteps: 4, noiseErrorImages: 11, seed: 9 };
    const onProgress = ({ done }) => {
      if (done !== 16) return;
      lost += 1;
      devices.at(-1).destroy();
    };
    const answer = await model.evaluate(pictures, labels, { ...options, onProgress });
    await model.dispose();
    devices.stop();
    return { answer, lost, devices: devices.length };
  }, tiny);
  assert.deepEqual([got.lost, got.devices], [1, 2]);
  assertReport(got.answer, tiny.report);
});
