/**
 * `checkDevice`: progress, stopping, an embedder's device, one that is lost, and errors of the caller's own. That all is right on a whole
 * check is tested with the demo's page.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, assertResponsive, libraryFolders, site } from './browser.mjs';

const pages = site(libraryFolders);

/**
 * Runs in a page of its own: these tests break devices.
 * @param {(argument?: any) => Promise<any>} body
 * @param {unknown} [argument]
 * @param {{ webgpu?: boolean }} [options]
 */
async function fresh(body, argument, options = {}) {
  let answer;
  await pages.visit('/pages/library.html', options, async (visit) => {
    await visit.ready();
    answer = await visit.page.evaluate(body, argument);
  });
  return answer;
}

for (const kind of ['Duet', 'DuetWorker']) {
  test(`${kind}: progress, stopping and a caller's error`, { timeout: SLOW }, async () => {
    const got = await fresh(async (name) => {
      const { duet, helpers } = globalThis;
      const check = (options) => duet[name].checkDevice(options);
      const before = await helpers.failure(check({ signal: AbortSignal.abort() }));
      const controller = new AbortController();
      const heard = [];
      const onProgress = ({ done, total, next, report }) => {
        heard.push([done, total, next, report.operations.length, report.training_step, Object.keys(report.limits).length]);
        if (done === 2) controller.abort();
      };
      const { answer: during, ...gaps } = await helpers.timerGaps(() => helpers.failure(check({ signal: controller.signal, onProgress })));
      const mine = await helpers.failure(
        check({
          onProgress() {
            throw new Error('mine');
          },
        }),
      );
      // On this thread the module runs already.
      const wasm = name === 'DuetWorker' ? await helpers.failure(check({ wasm: 'http://[::1' })) : undefined;
      return { before, heard, during, gaps, mine, wasm };
    }, kind);
    for (const failure of [got.before, got.during]) {
      assert.equal(failure.code, 'aborted', failure.message);
      assert.ok(failure.kind && failure.name === 'AbortedError');
    }
    const [[, total]] = got.heard;
    assert.ok(total >= 34, `${total} parts`);
    assert.deepEqual(
      got.heard.map(([done, all, next, operations]) => [done, all, next, operations > 0]),
      [
        [0, total, 'a training step', false],
        [1, total, 'convolution 3×3, few channels', false],
        [2, total, 'convolution 3×3, tiles', true],
      ],
    );
    assert.match(got.heard[0][4], /did not end/, 'nothing is right before it was computed');
    assert.equal(got.heard[1][4], null);
    assert.equal(got.heard[0][5], 5);
    assert.match(got.mine.message, /mine/);
    if (got.wasm) assert.equal(got.wasm.code, 'network');
    if (kind === 'DuetWorker') assertResponsive(got.gaps);
  });
}

test("an embedder's device is checked and left alone; where it is lost the report says so", { timeout: SLOW }, async () => {
  const got = await fresh(async () => {
    const { duet, helpers } = globalThis;
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const devices = helpers.watchDevices();
    const controller = new AbortController();
    const onProgress = ({ done }) => done === 2 && controller.abort();
    const stopped = await helpers.failure(duet.Duet.checkDevice({ device, signal: controller.signal, onProgress }));
    const works = await helpers.deviceWorks(device);
    let heard;
    const lose = ({ done, next }) => {
      heard = next;
      if (done === 3) device.destroy();
    };
    const lost = await duet.Duet.checkDevice({ device, onProgress: lose });
    // Lost before it begins.
    const after = await duet.Duet.checkDevice({ device }).catch(({ name, code, message }) => ({ name, code, message }));
    return { stopped, works, heard, lost, after, opened: devices.length };
  });
  assert.equal(got.stopped.code, 'aborted');
  assert.ok(got.works, 'the device works after a check');
  assert.equal(got.opened, 0, 'no other device was opened');
  assert.ok(got.lost.lost.startsWith(`${got.heard}: `), `${got.heard}; ${got.lost.lost}`);
  assert.equal(got.lost.training_step, null);
  assert.deepEqual([...new Set(got.lost.operations.map(({ name }) => name))], ['convolution 3×3, few channels', 'convolution 3×3, tiles']);
  console.log('a device lost before:', got.after);
  assert.ok(got.after.lost !== null, JSON.stringify(got.after));
});

test('a browser without WebGPU, and one without a GPU', { timeout: SLOW }, async () => {
  for (const kind of ['Duet', 'DuetWorker']) {
    const none = await fresh((name) => globalThis.helpers.failure(globalThis.duet[name].checkDevice()), kind, { webgpu: false });
    assert.equal(none.code, 'no-webgpu', none.message);
    assert.equal(none.name, 'NoWebGpuError');
  }
  const adapter = await fresh(async () => {
    GPU.prototype.requestAdapter = async () => null;
    return globalThis.helpers.failure(globalThis.duet.Duet.checkDevice());
  });
  assert.equal(adapter.code, 'no-adapter', adapter.message);
});
