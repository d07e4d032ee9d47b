/**
 * One training step in the browser against numbers of the reference implementation: noise, logits with batch statistics,
 * losses, and the gradient of every parameter; tolerances as in the native test. And the network alone.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, libraryFolders, site } from './browser.mjs';
import { fixture } from './paths.mjs';
import { Record } from './record.mjs';
import { readSafetensors } from './safetensors.mjs';
import { COLUMNS } from './summary.mjs';

/** Bound relative to the largest value for outputs of the whole network. */
const NETWORK = 2e-4;
/** Bar for gradients: relative error of norms. */
const GRADIENT = 1e-3;
/** Below this norm a gradient is an exact zero blurred by rounding. */
const NULL = 1e-9;
/** What rounding may leave of such a gradient: share of the norm of all gradients together. */
const BLUR = 1e-6;

const pages = site(() => {
  fixture('golden.safetensors');
  return libraryFolders();
});
const golden = readSafetensors(readFileSync(fixture('mnist28_c32.safetensors')));

/** @param {string} name */
function numbers(name) {
  const tensor = golden.tensors.get(name);
  assert.ok(tensor !== undefined, `the golden file has no ${name}`);
  return tensor.data;
}

/**
 * Compares with the double precision twin where there is one, within 20 times the reference's own rounding or
 * `relative` times the largest value, whichever is wider.
 * @param {Record} record @param {string} name @param {ArrayLike<number>} got @param {number} relative
 */
function check(record, name, got, relative) {
  const want = numbers(golden.tensors.has(`${name}_f64`) ? `${name}_f64` : name);
  const scale = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const noise = golden.metadata.f32_dev[name]?.[0] ?? 0;
  record.compare(name, got, want, Math.max(20 * noise, relative * scale, 1e-12));
}

/**
 * Compares summaries of all gradients.
 * @param {Record} record
 * @param {Record<string, number[]>} rows
 * @param {Record<string, number>} lengths
 */
function checkGradients(record, rows, lengths) {
  const names = golden.metadata.param_names;
  assert.deepEqual(Object.keys(rows).sort(), [...names].sort(), 'a gradient of every parameter');
  const [single, double] = [numbers('grads'), numbers('grads_f64')];
  const all = Math.hypot(...names.map((_, i) => double[COLUMNS * i]));
  names.forEach((name, i) => {
    const want = double.slice(COLUMNS * i, COLUMNS * (i + 1));
    const own = single.slice(COLUMNS * i, COLUMNS * (i + 1));
    const got = rows[name];
    if (want[0] < NULL) {
      record.ratio(name, got[0] / (BLUR * all), `a null gradient is ${got[0]}, all together are ${all}`);
      return;
    }
    // Sums and dot products may cancel: their error is bounded by the norms' (Cauchy and Schwarz).
    const root = Math.sqrt(lengths[name]);
    const scales = [want[0], want[0] * root, want[0] * root];
    // The reference's own rounding in this parameter's gradient.
    let noise = 0;
    for (let column = 3; column < COLUMNS; column += 1) {
      noise = Math.max(noise, Math.abs(own[column] - want[column]));
    }
    got.forEach((value, column) => {
      const scale = scales[column] ?? 2 * Math.abs(want[column]) + (2 * want[0]) / root;
      const slack = Math.max(GRADIENT * scale, 20 * noise * (column < 3 ? root : 1));
      const ratio = Math.abs(value - want[column]) / slack;
      record.ratio(`gradient of ${name}, column ${column}`, ratio, `${value} instead of ${want[column]}`);
    });
  });
}

for (const noised of [false, true]) {
  const title = `a training step ${noised ? 'whose classifier sees noised images' : 'as in the golden data'}`;
  test(title, { timeout: SLOW }, async () => {
    await pages.visit('/pages/golden.html', {}, async (visit) => {
      await visit.ready();
      const got = await visit.page.evaluate((flag) => globalThis.goldenStep(flag), noised);
      console.log(`one step of four images took ${(got.milliseconds / 1000).toFixed(1)} s with compiling`);
      const record = new Record(title);
      check(record, 'model_out', got.modelOut, NETWORK);
      check(record, `logits_train_${noised ? 'noised' : 'clean'}`, got.logits, NETWORK);
      check(record, 'mse', got.mse, 1e-5);
      if (noised) {
        // The file has no loss of this kind; it follows from the logits and the noise errors that it has.
        record.compare('loss', [got.loss], [noisedLoss()], 1e-4 * noisedLoss());
        for (const [name, row] of Object.entries(got.rows)) {
          record.ratio(name, row.every(Number.isFinite) ? 0 : Infinity, 'a gradient is not finite');
        }
      } else {
        check(record, 'loss', [got.loss], 1e-5);
        check(record, 'grad_norm_total', [got.norm], GRADIENT);
        checkGradients(record, got.rows, got.lengths);
        for (const [name, values] of Object.entries(got.full)) check(record, `grad.${name}`, values, GRADIENT);
        assert.ok(Object.keys(got.full).length >= 12, 'whole gradients of the file');
      }
      record.finish();
    });
  });
}

test('the noise in the golden images', { timeout: SLOW }, async () => {
  const [x, timesteps] = [numbers('x_t'), numbers('input.t')];
  let noise;
  await pages.visit('/pages/library.html', {}, async (visit) => {
    await visit.ready();
    noise = await visit.page.evaluate(
      async ({ x, timesteps }) => {
        const { duet } = globalThis;
        const row = x.length / timesteps.length;
        const images = timesteps.map((_, i) => Float32Array.from(x.slice(i * row, (i + 1) * row)));
        const found = {};
        for (const kind of ['Duet', 'DuetWorker']) {
          const model = await duet[kind].load('/fixtures/golden.safetensors');
          found[kind] = (await model.predictNoise(images, timesteps)).flatMap((one) => [...one]);
          if (kind === 'Duet') {
            found.alone = [...(await model.predictNoise([images[1]], timesteps[1]))[0]];
            const refused = (...call) => model.predictNoise(...call).then(() => 'nothing', ({ code }) => code);
            found.refused = await Promise.all([refused(images, [1]), refused(images, 1000), refused(images, 0.5)]);
            found.none = await model.predictNoise([], []);
          }
          await model.dispose();
        }
        return found;
      },
      { x: [...x], timesteps: [...timesteps] },
    );
  });
  const record = new Record('noise prediction');
  check(record, 'model_out', noise.Duet, NETWORK);
  const row = noise.alone.length;
  record.compare('one image alone', noise.alone, noise.Duet.slice(row, 2 * row), NETWORK);
  record.compare('in a worker', noise.DuetWorker, noise.Duet, NETWORK);
  record.finish();
  assert.deepEqual(noise.refused, ['bad-input', 'bad-input', 'bad-input']);
  assert.deepEqual(noise.none, []);
});

/** Mean noise error plus the scaled cross-entropy of the logits for noised images. */
function noisedLoss() {
  const [logits, labels, mse] = [numbers('logits_train_noised_f64'), numbers('input.y'), numbers('mse_f64')];
  const classes = logits.length / labels.length;
  let entropy = 0;
  labels.forEach((label, i) => {
    const row = [...logits.slice(classes * i, classes * (i + 1))];
    entropy += Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0)) - row[label];
  });
  const mean = mse.reduce((sum, value) => sum + value, 0) / mse.length;
  return mean + (golden.metadata.config.classifier_loss_scaling * entropy) / labels.length;
}
