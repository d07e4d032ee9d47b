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
  const told = [];
  const onStep = ({ done, total, curve }) => told.push([done, total, curve.length]);
  const started = performance.now();
  const { answer, ...gaps } = await helpers.timerGaps(() => model.explain(pixels, { target, ...options, onStep }));
  const milliseconds = performance.now() - started;
  const again = await model.classify(pixels);
  await model.dispose();
  return {
    told,
    milliseconds,
    reached: answer.reached,
    rung: answer.rung,
    chains: answer.chains,
    method: answer.method,
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
    const want = stored[name];
    onMain ??= got;
    const far = {
      pixels: apart(got.values, want.counterfactual),
      curve: apart(got.curve, want.curve),
      before: apart(got.before, want.before),
      after: apart(got.after, want.after),
    };
    console.log(`${got.told.length} steps in ${(got.milliseconds / 1000).toFixed(1)} s; largest differences`, far);
    assert.equal(got.best, largest(want.before), 'the decision before');
    assert.equal(got.afterBest, want.best, 'the decision after');
    assert.deepEqual([got.best, got.afterBest], [largest(got.before), largest(got.after)]);
    assert.equal(got.target, want.target);
    assert.ok(far.pixels <= PIXELS, `pixels differ by ${far.pixels}`);
    assert.ok(far.curve <= PROBABILITY, `the curve differs by ${far.curve}`);
    assert.ok(far.before <= PROBABILITY && far.after <= PROBABILITY, 'probabilities');
    assert.ok(apart(got.before, got.again) <= 1e-6, 'classify and explain say the same of the image');
    assert.deepEqual([got.reached, got.rung, got.chains], [want.reached, want.rung, want.chains]);
    assert.equal(got.method, want.options.method);
    assert.deepEqual(got.told, want.told, 'steps done and in all, and the curve so far');
    assert.deepEqual(got.sizes, Array(4).fill([28, 28]));
    const changed = got.values.map((value, i) => value - want.image[i]);
    assert.ok(apart(got.difference, changed) <= 1e-5, 'the difference is counterfactual minus original');
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
