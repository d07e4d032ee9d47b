/**
 * A counterfactual in the browser equals the one computed natively, and the one computed in a worker.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, assertResponsive, libraryPage } from './browser.mjs';
import { fixture } from './paths.mjs';

/** Two grey levels, in −1..1. */
const PIXELS = (2 * 2) / 255;
/** Probabilities on the way and at the end. */
const PROBABILITY = 0.01;

const { run } = libraryPage();
fixture('parity.safetensors');
const stored = JSON.parse(readFileSync(fixture('parity.json'), 'utf8'));

/** Runs in the page: one explanation by either kind of model, in plain lists. */
async function explain({ kind, image, target, options }) {
  const { duet, helpers } = globalThis;
  const model = await duet[kind].load('/fixtures/parity.safetensors');
  const pixels = Float32Array.from(image);
  const steps = [];
  const onStep = ({ done, total }) => steps.push([done, total]);
  const started = performance.now();
  const { answer, ...gaps } = await helpers.timerGaps(() => model.explain(pixels, { target, ...options, onStep }));
  const milliseconds = performance.now() - started;
  const again = await model.classify(pixels);
  await model.dispose();
  return {
    steps,
    milliseconds,
    gaps,
    best: answer.before.best,
    again: again.probabilities,
    target: answer.target,
    before: answer.before.probabilities,
    afterBest: answer.after.best,
    after: answer.after.probabilities,
    values: answer.counterfactualValues,
    difference: answer.differenceValues,
    curve: answer.curve,
    pictures: ['original', 'noised', 'counterfactual', 'difference'].map((name) => Uint8Array.from(answer[name].data)),
    sizes: ['original', 'noised', 'counterfactual', 'difference'].map((name) => [answer[name].width, answer[name].height]),
  };
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
function apart(a, b) {
  assert.equal(a.length, b.length, 'as many numbers');
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** @param {ArrayLike<number>} list */
function largest(list) {
  return Array.from(list).reduce((at, value, i, all) => (value > all[at] ? i : at), 0);
}

/** @param {string} kind */
const task = (kind) => ({ kind, image: stored.image, target: stored.target, options: stored.options });
let onMain;

test('the main thread agrees with the native library', { timeout: SLOW }, async () => {
  const got = await run(explain, task('Duet'));
  onMain = got;
  const far = {
    pixels: apart(got.values, stored.counterfactual),
    curve: apart(got.curve, stored.curve),
    before: apart(got.before, stored.before),
    after: apart(got.after, stored.after),
  };
  console.log(`${got.steps.length} steps in ${(got.milliseconds / 1000).toFixed(1)} s; largest differences`, far);
  assert.equal(got.best, largest(stored.before), 'the decision before');
  assert.equal(got.afterBest, stored.best, 'the decision after');
  assert.deepEqual([got.best, got.afterBest], [largest(got.before), largest(got.after)]);
  assert.equal(got.target, stored.target);
  assert.ok(far.pixels <= PIXELS, `pixels differ by ${far.pixels}`);
  assert.ok(far.curve <= PROBABILITY, `the curve differs by ${far.curve}`);
  assert.ok(far.before <= PROBABILITY && far.after <= PROBABILITY, 'probabilities');
  assert.ok(apart(got.before, got.again) <= 1e-6, 'classify and explain say the same of the image');
  assert.deepEqual(got.steps, stored.curve.map((_, i) => [i + 1, stored.curve.length]));
  assert.deepEqual(got.sizes, Array(4).fill([28, 28]));
  const changed = got.values.map((value, i) => value - stored.image[i]);
  assert.ok(apart(got.difference, changed) <= 1e-5, 'the difference is counterfactual minus original');
});

test('the page stays responsive meanwhile', () => {
  assert.ok(onMain !== undefined, 'needs the test before');
  assertResponsive(onMain.gaps);
});

test('a worker gives exactly the same', { timeout: SLOW }, async () => {
  assert.ok(onMain !== undefined, 'needs the test before');
  const got = await run(explain, task('DuetWorker'));
  console.log(`${got.steps.length} steps in ${(got.milliseconds / 1000).toFixed(1)} s, longest gap ${got.gaps.longest.toFixed(0)} ms`);
  const numbers = (/** @type {typeof got} */ { milliseconds: _, gaps: __, ...rest }) => rest;
  assert.deepStrictEqual(numbers(got), numbers(onMain));
});
