/**
 * A counterfactual that was computed elsewhere against the one that the library computed natively.
 */

import assert from 'node:assert/strict';

/** Two grey levels, in −1..1. */
const PIXELS = (2 * 2) / 255;
/** Probabilities on the way and at the end. */
const PROBABILITY = 0.01;

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
function apart(a, b) {
  assert.equal(a.length, b.length, 'as many numbers');
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** @param {ArrayLike<number>} list */
function largest(list) {
  return Array.from(list).reduce((at, value, i, all) => (value > all[at] ? i : at), 0);
}

/**
 * Fails unless an explanation is the native one.
 * @param {any} got of the helper `plainAnswer`, with `again`, the probabilities by `classify`
 * @param {any} want of the native tests
 */
export function assertParity(got, want) {
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
}
