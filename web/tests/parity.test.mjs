/**
 * A counterfactual in the browser equals the one computed natively, and the one computed in a worker.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, assertResponsive, libraryPage } from './browser.mjs';
import { assertParity } from './parity.mjs';
import { fixture } from './paths.mjs';

const { run } = libraryPage({ share: true });
fixture('parity.safetensors');
const stored = JSON.parse(readFileSync(fixture('parity.json'), 'utf8'));

/** Runs in the page: one explanation by either kind of model, in plain lists. */
async function explain({ kind, image, target, options }) {
  const { duet, helpers } = globalThis;
  const model = await duet[kind].load('/fixtures/parity.safetensors');
  const pixels = Float32Array.from(image);
  const told = [];
  const onStep = ({ done, total, curve }) => told.push([done, total, curve.length]);
  const started = performance.now();
  const { answer, ...gaps } = await helpers.timerGaps(() => model.explain(pixels, { target, ...options, onStep }));
  const milliseconds = performance.now() - started;
  const again = [...(await model.classify(pixels)).probabilities];
  await model.dispose();
  return { ...helpers.plainAnswer(answer, told), milliseconds, gaps, again };
}

/** @param {string} kind @param {string} name */
const task = (kind, name) => {
  const { image, target, options } = stored[name];
  return { kind, image, target, options };
};
let onMain;

for (const [name, title] of [
  ['near', 'the main thread agrees with the native library'],
  ['far', 'where more strength is needed, too'],
  ['paper', 'and by the method of the paper'],
]) {
  test(title, { timeout: SLOW }, async () => {
    const got = await run(explain, task('Duet', name));
    onMain ??= got;
    assertParity(got, stored[name]);
  });
}

test('the page stays responsive meanwhile', () => {
  assert.ok(onMain !== undefined, 'needs the test before');
  assertResponsive(onMain.gaps);
});

test('a worker gives exactly the same', { timeout: SLOW }, async () => {
  assert.ok(onMain !== undefined, 'needs the test before');
  const got = await run(explain, task('DuetWorker', 'near'));
  console.log(`${got.told.length} steps in ${(got.milliseconds / 1000).toFixed(1)} s, longest gap ${got.gaps.longest.toFixed(0)} ms`);
  const numbers = (/** @type {typeof got} */ { milliseconds: _, gaps: __, ...rest }) => rest;
  assert.deepStrictEqual(numbers(got), numbers(onMain));
});
