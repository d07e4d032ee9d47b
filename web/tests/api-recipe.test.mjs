/**
 * New models and training by recipes: as the command trains, kept in the browser, gone on with bit for bit, here and by the command.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { SLOW, libraryFolders, site } from './browser.mjs';
import { fashion, halved, toml, writeIdx } from './fashion.mjs';
import { command, fixture } from './paths.mjs';
import { readSafetensors } from './safetensors.mjs';

const pages = site(libraryFolders);

/** Names of the classes as the command numbers those of idx files. */
const NAMES = Array.from({ length: 10 }, (_, c) => String(c));

/** A network that a software device trains in seconds, and a recipe that says much of what recipes can say. */
const MODEL = {
  image_size: 14,
  num_channels: 8,
  num_groups: 4,
  num_res_blocks: 1,
  channel_mult: [1, 2],
  attention_resolutions: [],
  classifier_dropout: 0.2,
  class_names: NAMES,
};
const TRAIN = {
  steps: 20,
  batch_size: 16,
  micro_batches: 2,
  learning_rate: 0.0003,
  lr_schedule: 'cosine',
  warmup_steps: 3,
  ema_rate: 0.9,
  ema_warmup: true,
  classifier_input: 'both',
  classifier_loss_scaling: 0.1,
  clip_grad_norm: 1,
  min_snr_gamma: 5,
  flip: true,
  seed: 5,
  log_every: 1,
  eval_every: 0,
  sample_every: 0,
  sample_steps: '2',
  save_every: 1000,
};
const AUGMENT = { crop: true, rotation: true };

/** The least network and recipe that keep, lose and find again all that a training has. */
const LEAST = {
  model: { image_size: 8, num_channels: 8, num_groups: 4, num_res_blocks: 1, channel_mult: [1], attention_resolutions: [], num_classes: 3 },
  train: {
    steps: 6,
    batch_size: 4,
    learning_rate: 0.002,
    lr_schedule: 'cosine',
    warmup_steps: 2,
    ema_rate: 0.9,
    classifier_input: 'noised',
    classifier_loss_scaling: 0.1,
    flip: true,
    seed: 5,
    log_every: 1,
    save_every: 2,
  },
};

/**
 * Largest differences from the command, relative: of noise error, classifier's loss and the gradients' norm, which feels most of it. SwiftShader and
 * lavapipe round otherwise; measured are 1.5e-6, 1.6e-4 and 0.018. Half as many images to a BatchNorm and ten times the rate would make
 * of that a tenth of the classifier's loss within 20 steps.
 */
const TOLERANCE = { mse: 1e-4, classifierLoss: 2e-3, learningRate: 1e-12, gradientNorm: 0.1 };

const images = halved(fashion('train', 64));
const others = halved(fashion('t10k', 16));
const folder = mkdtempSync(path.join(tmpdir(), 'duet-recipe-'));
after(() => rmSync(folder, { recursive: true }));

/** What a page is given. */
const given = (/** @type {{ levels: Uint8Array, labels: number[] }} */ { levels, labels }) => ({ levels: [...levels], labels });

/** Twelve images of 8 × 8 pixels and three classes. */
const small = () => ({ levels: Array.from({ length: 12 * 64 }, (_, i) => (i * 37 + (i >> 6) * 80) % 256), labels: [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, null, 2] });

/** Runs in a page of its own, which `again` reloads. @param {(visit: import('./browser.mjs').Visit) => Promise<void>} body @param {RegExp[]} [expected] */
const inPage = (body, expected = []) =>
  pages.visit('/pages/library.html?share', { expected }, async (visit) => {
    await visit.ready();
    await body(visit);
  });

/** Loads the page anew: all that is in memory is gone. @param {import('./browser.mjs').Visit} visit */
async function reload(visit) {
  await visit.page.goto(`${visit.url}/pages/library.html?share`);
  await visit.ready();
}

/** Trains by the command and gives what its file of figures says. @param {string} out @param {object} recipe @param {string[]} more */
function natively(out, recipe, more) {
  const data = path.join(folder, 'data');
  writeIdx(data, { train: images, t10k: others });
  const file = path.join(folder, 'recipe.toml');
  writeFileSync(file, toml({ data: { kind: 'idx', path: 'data' }, ...recipe }));
  const words = ['train', file, '--out', path.join(folder, out), ...more];
  execFileSync(command(), words, { stdio: ['ignore', 'ignore', 'pipe'] });
  const lines = readFileSync(path.join(folder, out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line)).filter(({ loss }) => loss !== undefined);
}

/** In the page: trains a new model and keeps it. */
async function train({ kind, recipe, set, keep, stopAt, loseAt, resume, heldOut }) {
  const { duet, helpers } = globalThis;
  const devices = kind === 'Duet' ? helpers.watchDevices() : [];
  const bytes = (/** @type {number[]} */ levels) => Uint8Array.from(levels);
  const model = resume
    ? await duet[kind].load(await duet.trainings.checkpoint(keep), { training: true })
    : await duet[kind].create(recipe);
  const controller = new AbortController();
  const [steps, saved, before, looks] = [[], [], [], []];
  let samples;
  let lost = false;
  const outcome = await helpers.failure(
    model.trainByRecipe({
      images: bytes(set.levels),
      labels: set.labels,
      ...(!resume && { recipe }),
      ...(heldOut && { heldOut: { images: bytes(heldOut.levels), labels: heldOut.labels }, onSamples: (made) => (samples = made) }),
      keep,
      signal: controller.signal,
      beforeStep: async (step) => {
        before.push(step);
        await Promise.resolve();
      },
      onStep: (told) => {
        steps.push(told);
        if (told.done === stopAt) controller.abort();
        if (told.done === loseAt && !lost) {
          lost = true;
          devices.at(-1).destroy();
        }
      },
      onEvaluate: (look) => looks.push(look),
      onSave: (one) => saved.push(one),
    }),
  );
  const file = new Uint8Array(await model.export({ training: true }));
  const { training } = model.info;
  const answers = [...(await model.classify(bytes(set.levels.slice(0, model.info.imageSize ** 2)))).probabilities];
  await model.dispose();
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', file));
  const kept = keep === undefined ? undefined : new Uint8Array(await (await duet.trainings.checkpoint(keep)).arrayBuffer());
  return {
    outcome: outcome.code,
    message: outcome.message,
    steps,
    saved,
    before,
    looks,
    samples: samples && { step: samples.step, count: samples.images.length, width: samples.images[0].width },
    training: training && { step: training.step, seed: training.recipe.train.seed },
    answers,
    opened: devices.length,
    hash: [...hash].join(' '),
    same: kept === undefined || (kept.length === file.length && kept.every((value, i) => value === file[i])),
  };
}

/** The kept file of a training, on this side. @param {import('./browser.mjs').Visit} visit @param {string} name */
async function keptFile({ page }, name) {
  const text = await page.evaluate(async (called) => {
    const bytes = new Uint8Array(await (await globalThis.duet.trainings.checkpoint(called)).arrayBuffer());
    let out = '';
    for (let i = 0; i < bytes.length; i += 0x8000) out += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    return btoa(out);
  }, name);
  return Buffer.from(text, 'base64');
}

test('a new model has the weights that the command would draw', { timeout: SLOW }, async () => {
  const want = readSafetensors(readFileSync(fixture('created.safetensors')));
  const recipe = JSON.parse(readFileSync(fixture('created.json'), 'utf8'));
  await inPage(async ({ page }) => {
    const got = await page.evaluate(async (text) => {
      const { duet } = globalThis;
      const all = {};
      for (const kind of ['Duet', 'DuetWorker']) {
        const model = await duet[kind].create(text);
        const other = await duet[kind].create(text, { seed: 8 });
        const { adapter: _, ...info } = model.info;
        const [mine, others] = [await model.export({ dtype: 'f32' }), await other.export({ dtype: 'f32' })];
        all[kind] = { info, bytes: [...mine], differ: mine.filter((byte, i) => byte !== others[i]).length };
        await model.dispose();
        await other.dispose();
      }
      return all;
    }, recipe);
    assert.deepEqual(got.DuetWorker, got.Duet);
    const { tensors } = readSafetensors(Uint8Array.from(got.Duet.bytes));
    assert.deepEqual([...tensors.keys()].sort(), [...want.tensors.keys()].sort());
    for (const [name, { data }] of want.tensors) assert.deepEqual(tensors.get(name).data, data, name);
    const { info } = got.Duet;
    assert.deepEqual([info.imageSize, info.channels, info.classNames, info.ground, info.training], [8, 1, ['cat', 'dog'], 200, null]);
    assert.ok(got.Duet.differ > 0.5 * got.Duet.bytes.length, 'another seed, other weights');
  });
});

test('what is wrong with a recipe is named', { timeout: SLOW }, async () => {
  await inPage(async ({ page }) => {
    const cases = [
      [{}, 'model'],
      [{ model: { num_chanels: 8 } }, 'model.num_chanels'],
      [{ model: { num_channels: 'many' } }, 'model.num_channels'],
      [{ model: { ...MODEL, num_groups: 3 } }, 'model.num_groups'],
      [{ model: MODEL, data: { path: 'images' } }, 'data.path'],
      [{ model: MODEL, diffusion: { diffusion_steps: 0 } }, 'diffusion.diffusion_steps'],
      [{ model: MODEL, train: { timestep_sampler: 'loss_second_moment' } }, 'train.timestep_sampler'],
      [{ model: MODEL, train: { max_time: '2h' } }, 'train.max_time'],
      [{ model: MODEL, train: { batch_size: 7, micro_batches: 2 } }, 'train.batch_size'],
    ];
    const got = await page.evaluate(async (list) => {
      const { duet } = globalThis;
      const fields = {};
      for (const kind of ['Duet', 'DuetWorker']) {
        fields[kind] = [];
        // A worker each: two of them say it.
        for (const [recipe] of kind === 'Duet' ? list : list.slice(1, 3)) {
          const error = await duet[kind].create(recipe).then(
            () => ({}),
            (thrown) => thrown,
          );
          fields[kind].push([error instanceof duet.BadInputError, error.code, error.field]);
        }
      }
      return fields;
    }, cases);
    const want = cases.map(([, field]) => [true, 'bad-input', field]);
    assert.deepEqual(got.Duet, want);
    assert.deepEqual(got.DuetWorker, want.slice(1, 3));
  });
});

test('20 steps are those of the command, which goes on from a checkpoint of the page', { timeout: 2 * SLOW }, async () => {
  const recipe = { model: MODEL, train: TRAIN, augment: AUGMENT };
  const want = natively('whole', recipe, []);
  assert.deepEqual(want.map(({ step }) => step), Array.from({ length: 20 }, (_, i) => i + 1));
  await inPage(async (visit) => {
    const set = given(images);
    const task = { kind: 'DuetWorker', recipe, set, heldOut: given(others), keep: 'parity' };
    const got = await visit.page.evaluate(train, task);
    assert.equal(got.outcome, 'none', got.message);
    const far = { mse: 0, classifierLoss: 0, learningRate: 0, gradientNorm: 0 };
    got.steps.forEach((step, i) => {
      const native = want[i];
      const pairs = [['mse', native.mse], ['classifierLoss', native.classifier_loss], ['learningRate', native.learning_rate], ['gradientNorm', native.gradient_norm]];
      for (const [name, value] of pairs) far[name] = Math.max(far[name], Math.abs(step[name] - value) / Math.abs(value));
    });
    const mean = (/** @type {any[]} */ list) => list.reduce((sum, { mse }) => sum + mse, 0) / list.length;
    const [first, last] = [mean(got.steps.slice(0, 5)), mean(got.steps.slice(-5))];
    console.log(`noise error ${first.toFixed(3)} → ${last.toFixed(3)}; furthest from the command, relative:`, far);
    for (const [name, most] of Object.entries(TOLERANCE)) assert.ok(far[name] < most, `${name}: ${far[name]}`);
    assert.ok(last < first, `the noise error went from ${first} to ${last}`);
    assert.deepEqual(got.before, got.steps.map((_, i) => i), 'each step waited for the page');
    assert.deepEqual(got.saved.map(({ step, kept }) => [step, kept]), [[20, 'storage']]);
    assert.ok(got.same, 'what is kept is what is exported');
    assert.deepEqual(got.samples, { step: 20, count: 10, width: 14 });
    assert.deepEqual(got.looks.map(({ step, images: count }) => [step, count]), [[20, 16]]);
    assert.deepEqual(got.training, { step: 20, seed: 5 });

    // The command takes it for a run of its own: on the same images, by the same recipe, with more steps.
    const file = path.join(folder, 'page.safetensors');
    writeFileSync(file, await keptFile(visit, 'parity'));
    const longer = { ...recipe, train: { ...TRAIN, steps: 22, keep_last: 2 } };
    const on = natively('on', longer, ['--resume', '--from', file]);
    assert.deepEqual(on.map(({ step }) => step), [21, 22]);
    assert.ok(on.every(({ loss }) => Number.isFinite(loss) && loss < 2 * want[0].loss));
    // And its own checkpoint is one that goes on here.
    const native = readFileSync(path.join(folder, 'on', 'checkpoint.safetensors')).toString('base64');
    const back = await visit.page.evaluate(async (text64) => {
      const bytes = Uint8Array.from(atob(text64), (c) => c.charCodeAt(0));
      const model = await globalThis.duet.Duet.load(bytes, { training: true });
      const { step, recipe: noted } = model.info.training;
      const size = model.info.imageSize ** 2;
      // That the command kept two of them is nothing that a page need refuse; that all steps are done is.
      const on = await globalThis.helpers.failure(model.trainByRecipe({ images: new Uint8Array(16 * size), labels: Array(16).fill(0), otherwise: true }));
      await model.dispose();
      return [step, noted.train.seed, noted.train.keep_last, on.message];
    }, native);
    assert.deepEqual(back.slice(0, 3), [22, 5, 2]);
    assert.match(back[3], /^train\.steps: is 22: 22 are done already/);
  });
});

test('a training goes on bit for bit: after a lost device, and after a reload', { timeout: 2 * SLOW }, async () => {
  const set = small();
  await inPage(async (visit) => {
    const { page } = visit;
    const whole = await page.evaluate(train, { kind: 'DuetWorker', recipe: LEAST, set, keep: 'whole' });
    assert.equal(whole.outcome, 'none', whole.message);
    assert.deepEqual(whole.saved.map(({ step }) => step), [2, 4, 6]);
    // Lost after its third step it goes on from the second, by itself; then it is stopped.
    const half = await page.evaluate(train, { kind: 'Duet', recipe: LEAST, set, keep: 'halves', loseAt: 3, stopAt: 5 });
    assert.equal(half.outcome, 'aborted', half.message);
    assert.equal(half.opened, 2, 'a second device');
    assert.equal(half.before.filter((/** @type {number} */ step) => step === 2).length, 2, 'the third step is done again');
    assert.deepEqual(half.saved.map(({ step }) => step), [2, 4, 5], 'stopped, it saves what it learned');
    await reload(visit);
    const names = await page.evaluate(async () => (await globalThis.duet.trainings.list()).map(({ name, step }) => [name, step]));
    assert.deepEqual(names.sort(), [['halves', 5], ['whole', 6]]);
    const states = await page.evaluate(() => Promise.all(['halves', 'whole'].map((name) => globalThis.duet.trainings.state(name))));
    assert.deepEqual(states.map(({ step, recipe }) => [step, recipe.train.steps, recipe.train.seed]), [[5, 6, 5], [6, 6, 5]], 'without loading any');
    const added = await page.evaluate(async () => {
      const { trainings } = globalThis.duet;
      const file = await trainings.checkpoint('halves');
      const { step } = await trainings.add('again', file);
      const whole = (await (await trainings.checkpoint('again')).arrayBuffer()).byteLength === file.size;
      const refused = [];
      for (const [name, bytes] of [['again', file], ['no model', new Blob(['no model'])], ['cut', file.slice(0, 400)]]) {
        refused.push(await trainings.add(name, bytes).catch(({ code }) => code));
      }
      await trainings.remove('again');
      return [step, whole, refused, (await trainings.list()).length];
    });
    assert.deepEqual(added, [5, true, ['bad-input', 'bad-checkpoint', 'bad-checkpoint'], 2]);
    const rest = await page.evaluate(train, { kind: 'Duet', set, keep: 'halves', resume: true });
    assert.equal(rest.outcome, 'none', rest.message);
    assert.deepEqual(rest.steps.map(({ done }) => done), [6]);
    assert.equal(rest.hash, whole.hash, 'whatever was lost on the way, the file is the same to the last bit');
    assert.deepEqual(rest.answers, whole.answers);
    assert.ok(rest.same && whole.same, 'what is kept is what is exported');
  }, [/lost|destroyed/i]);
});

test('nothing is written over, or goes on otherwise, by mistake', { timeout: SLOW }, async () => {
  await inPage(async ({ page }) => {
    const { step, gone, meant, ...errors } = await page.evaluate(
      async ({ recipe, set: { levels, labels } }) => {
        const { duet, helpers } = globalThis;
        const all = {};
        const images = Uint8Array.from(levels);
        const of = (/** @type {object} */ more) => ({ ...recipe, train: { ...recipe.train, steps: 1, ...more } });
        const model = await duet.Duet.create(recipe);
        await model.trainByRecipe({ recipe: of({}), images, labels, keep: 'kept' });
        const fresh = await duet.Duet.create(recipe);
        all.taken = await helpers.failure(fresh.trainByRecipe({ recipe, images, labels, keep: 'kept' }));
        await fresh.dispose();
        all.done = await helpers.failure(model.trainByRecipe({ images, labels, keep: 'kept' }));
        const more = of({ steps: 2 });
        all.otherwise = await helpers.failure(model.trainByRecipe({ recipe: of({ steps: 2, batch_size: 6 }), images, labels, keep: 'kept' }));
        const turned = [...labels.slice(1), labels[0]];
        all.others = await helpers.failure(model.trainByRecipe({ recipe: more, images, labels: turned, keep: 'kept' }));
        all.counts = await helpers.failure(model.trainByRecipe({ recipe: more, images, labels: [0], keep: 'kept' }));
        all.unknown = await helpers.failure(model.trainByRecipe({ recipe: more, images, labels: labels.map(() => 'hat'), keep: 'kept' }));
        all.name = await helpers.failure(model.trainByRecipe({ recipe: more, images, labels, keep: '' }));
        const second = await duet.Duet.load(await duet.trainings.checkpoint('kept'), { training: true });
        all.meant = await helpers.failure(
          model.trainByRecipe({
            recipe: more,
            images,
            labels: turned,
            keep: 'kept',
            otherwise: true,
            beforeStep: async () => {
              all.twice = await helpers.failure(second.trainByRecipe({ recipe: more, images, labels, keep: 'kept' }));
              all.busy = await helpers.failure(duet.trainings.remove('kept'));
            },
          }),
        );
        await second.dispose();
        await model.dispose();
        all.step = (await duet.trainings.list()).find(({ name }) => name === 'kept').step;
        await duet.trainings.attach('kept', 'notes', new Blob(['mine']));
        const notes = await (await duet.trainings.attached('kept', 'notes')).text();
        await duet.trainings.remove('kept');
        all.gone = [notes, (await helpers.failure(duet.trainings.checkpoint('kept'))).message, await duet.trainings.attached('kept', 'x').catch(({ code }) => code)];
        return all;
      },
      { recipe: LEAST, set: small() },
    );
    assert.equal(meant.code, 'none', meant.message);
    assert.equal(step, 2);
    assert.deepEqual(gone, ['mine', 'no training called "kept" is kept here', 'bad-input']);
    const words = {
      taken: /"kept" is kept here, at step 1/,
      done: /train\.steps: is 1/,
      otherwise: /train\.batch_size: was 4, is 6/,
      others: /images: are not those/,
      counts: /1 labels for 12 images of 1·8·8/,
      unknown: /no class "hat"/,
      name: /name of a training/,
      twice: /"kept" runs already/,
      busy: /"kept" runs already/,
    };
    for (const [what, pattern] of Object.entries(words)) {
      assert.equal(errors[what].code, 'bad-input', `${what}: ${errors[what].message}`);
      assert.match(errors[what].message, pattern);
    }
  });
});

test('without room, or any storage, a training goes on in memory and says so', { timeout: SLOW }, async () => {
  const recipe = { ...LEAST, train: { ...LEAST.train, steps: 3, save_every: 1 } };
  await inPage(async ({ page }) => {
    const got = await page.evaluate(
      async ({ text, levels, labels }) => {
        const { duet } = globalThis;
        const model = await duet.Duet.create(text);
        const images = Uint8Array.from(levels);
        const saved = [];
        const run = (steps) =>
          model.trainByRecipe({ recipe: { ...text, train: { ...text.train, steps } }, images, labels, keep: 'tight', onSave: (one) => saved.push(one) });
        // A quota that is used up in the middle of the second file.
        const own = FileSystemFileHandle.prototype.createWritable;
        let files = 0;
        FileSystemFileHandle.prototype.createWritable = async function (...options) {
          const stream = await own.apply(this, options);
          files += 1;
          if (files === 2) stream.write = () => Promise.reject(new DOMException('full', 'QuotaExceededError'));
          return stream;
        };
        await run(3);
        FileSystemFileHandle.prototype.createWritable = own;
        const kept = (await duet.trainings.list()).map(({ name, step }) => [name, step]);
        // No storage at all, as in some private windows.
        StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException('no', 'SecurityError'));
        await run(4);
        const listed = await duet.trainings.list().catch(({ code, message }) => ({ code, message }));
        const file = await model.export({ training: true });
        await model.dispose();
        const again = await duet.Duet.load(file, { training: true });
        const { step } = again.info.training;
        await again.dispose();
        return { saved, kept, listed, step };
      },
      { text: recipe, ...small() },
    );
    assert.deepEqual(got.saved.map(({ step, kept }) => [step, kept]), [[1, 'storage'], [2, 'memory'], [3, 'storage'], [4, 'memory']]);
    assert.match(got.saved[1].reason, /no more room/);
    assert.match(got.saved[3].reason, /no private file system/);
    assert.deepEqual(got.kept, [['tight', 3]], 'what was kept before the room was used up stayed until the next one');
    assert.equal(got.listed.code, 'storage');
    assert.equal(got.step, 4, 'what is in memory can be downloaded, and goes on');
  });
});

test('pictures of any kind become the levels that the command reads', { timeout: SLOW }, async () => {
  const set = fashion('train', 24);
  await inPage(async ({ page }) => {
    const got = await page.evaluate(
      async ({ levels, model: config }) => {
        const { duet, helpers } = globalThis;
        const one = (/** @type {number} */ i) => Uint8ClampedArray.from(levels.slice(784 * i, 784 * (i + 1)));
        const all = {};
        for (const kind of ['Duet', 'DuetWorker']) {
          const model = await duet[kind].create({ model: config });
          const told = [];
          const source = (function* () {
            for (let i = 0; i < 24; i += 1) {
              if (i % 3 === 0) yield helpers.picture(one(i), 28);
              else if (i % 3 === 1) yield one(i);
              else yield helpers.signed(one(i));
            }
            yield new Blob(['no picture']);
          })();
          const made = await model.prepareAll(source, { skipUnreadable: true, onProgress: ({ done }) => told.push(done) });
          all[kind] = { levels: [...made.levels], count: made.count, unreadable: made.unreadable.map(({ index }) => index), last: told.at(-1) };
          all[kind].refused = (await helpers.failure(model.prepareAll([new Blob(['no'])]))).code;
          await model.dispose();
        }
        return all;
      },
      { levels: [...set.levels], model: { ...MODEL, image_size: 28 } },
    );
    assert.deepEqual(got.DuetWorker, got.Duet);
    assert.deepEqual(got.Duet.levels, [...set.levels]);
    assert.deepEqual([got.Duet.count, got.Duet.unreadable, got.Duet.last, got.Duet.refused], [24, [24], 25, 'bad-input']);
  });
});
