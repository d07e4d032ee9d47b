/**
 * What an evaluation found in the browser against what the library found natively.
 */

import assert from 'node:assert/strict';

/** Bounds: counts are equal, and figures as equal as two devices' rounding lets them be. */
const CALIBRATION = 1e-5;
const NOISE = 1e-4;

/** Fails unless two numbers, or two `null`s, are alike. @param {number | null} got @param {number | null} want @param {number} within @param {string} what */
function close(got, want, within, what) {
  if (got === null || want === null) assert.equal(got, want, what);
  else assert.ok(Math.abs(got - want) <= within, `${what}: ${got} instead of ${want}`);
}

/** @param {any} got an answer of `evaluate` @param {any} want the library's report */
export function assertReport(got, want) {
  const { calibration } = want;
  assert.equal(got.images, calibration.images, 'images');
  assert.equal(got.accuracy, calibration.accuracy, 'accuracy');
  assert.deepEqual(got.confusion, want.confusion.counts, 'the confusion matrix');
  for (const name of ['ece', 'confidence', 'brier']) close(got[name], calibration[name], CALIBRATION, name);
  close(got.nll, calibration.nll, 1e-4 * calibration.nll, 'nll');
  assert.equal(got.bins.length, calibration.bins.length);
  got.bins.forEach((bin, i) => {
    const other = calibration.bins[i];
    assert.deepEqual([bin.low, bin.high, bin.count, bin.accuracy], [other.low, other.high, other.count, other.accuracy], `bin ${i}`);
    close(bin.confidence, other.confidence, CALIBRATION, `bin ${i}`);
  });
  const figures = ({ images, recall, precision }) => [images, recall, precision];
  assert.deepEqual(got.perClass.map(figures), want.per_class.map(figures), 'each class');
  assert.deepEqual(got.noiseError.map(({ timestep }) => timestep), want.noise_error.map(({ timestep }) => timestep), 'timesteps');
  got.noiseError.forEach(({ timestep, error, standardError }, i) => {
    const other = want.noise_error[i];
    close(error, other.error, NOISE * other.error, `noise error at ${timestep}`);
    close(standardError, other.standard_error, 10 * NOISE * other.error, `its standard error at ${timestep}`);
  });
  assert.equal(got.noiseErrorImages, want.noise_images);
  assert.equal(got.protocol, want.protocol);
}
