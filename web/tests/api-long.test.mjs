/**
 * Many calls in a row: nothing grows, and the page stays responsive.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, assertResponsive, engine, libraryPage, whole } from './browser.mjs';

/** Calls in all, and after how many of them the use of memory must have settled. */
const CALLS = whole ? 200 : 60;
const SETTLED = 20;
/** What the page's own heap may grow by meanwhile, in bytes: garbage is collected when the browser likes. */
const HEAP = 20e6;
/** What the module's memory may grow by: gaps between blocks make it leap, and only bytes in use tell of a leak. */
const LEAPS = 0.5e6;

const { run } = libraryPage({ model: 'tiny.safetensors' });

test('many explanations leave nothing behind', { timeout: 2 * SLOW }, async (t) => {
  const got = await run(
    async ([calls, settled]) => {
      const { helpers, model } = globalThis;
      const usages = [];
      const started = performance.now();
      for (let i = 1; i <= calls; i += 1) {
        const options = { target: i % 3, steps: 5, noise: 0.4, seed: i };
        if (i % 2 === 0) options.mask = new Float32Array(64).fill(1);
        await model.explain(helpers.greys(8, i), options);
        // The other calls must not leave anything either.
        if (i % 10 === 0) {
          await model.classifyAll([helpers.greys(8), helpers.greys(8, 1)]);
          await model.sample({ steps: 2, class: 1 });
        }
        if (i === settled || i === calls) {
          usages.push({ ...(await model.usage()), heap: performance.memory?.usedJSHeapSize ?? 0 });
        }
      }
      return { usages, milliseconds: (performance.now() - started) / calls };
    },
    [CALLS, SETTLED],
  );
  const [early, late] = got.usages;
  console.log(`${got.milliseconds.toFixed(0)} ms a call; after ${SETTLED}:`, early, `after ${CALLS}:`, late);
  for (const key of ['buffers', 'bufferBytes', 'heapBytes', 'pipelines']) assert.equal(late[key], early[key], key);
  assert.ok(early.buffers > 0 && early.bufferBytes > 0 && early.heapBytes > 0 && early.pipelines > 0);
  assert.ok(late.wasmBytes - early.wasmBytes < LEAPS, `the module's memory grew from ${early.wasmBytes} to ${late.wasmBytes}`);
  if (engine.lacks.heap) t.diagnostic(`the page's heap is not looked at: ${engine.lacks.heap}`);
  else assert.ok(early.heap > 0 && late.heap - early.heap < HEAP, `the page's heap grew from ${early.heap} to ${late.heap} bytes`);
});

test('loading and disposing leaves nothing behind', { timeout: SLOW }, async () => {
  const sizes = await run(async () => {
    const { duet, helpers } = globalThis;
    const list = [];
    for (let i = 0; i < 8; i += 1) {
      const other = await duet.Duet.load('/fixtures/tiny.safetensors');
      await other.classify(helpers.greys(8));
      list.push((await other.usage()).heapBytes);
      await other.dispose();
    }
    return list;
  });
  // What listens for the loss of a device (a pointer's pair) is freed by the page's garbage collector, when it likes.
  assert.ok(sizes.at(-1) - sizes[2] <= 16 * 5, `memory of the module in use: ${sizes}`);
  assert.ok(sizes[0] > 0);
});

test('the page stays responsive', { timeout: SLOW }, async () => {
  const gaps = await run(async () => {
    const { helpers, model } = globalThis;
    const image = helpers.greys(8, 1);
    const { answer: _, ...rest } = await helpers.timerGaps(() => model.explain(image, { target: 1, steps: 60, noise: 1 }));
    return rest;
  });
  assertResponsive(gaps);
});
