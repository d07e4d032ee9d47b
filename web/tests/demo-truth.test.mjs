/**
 * The demo page says what is so: which files it left out, when a picture is unlike what the model knows, what a result was
 * made by, and what became of a training that failed.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, site } from './browser.mjs';
import { demo, fixture } from './paths.mjs';
import { png } from './png.mjs';
import { bars, dropFiles, idle, more, openModel, pixels, shown, start, text, work } from './visitor.mjs';

// Where any model does, a tiny one is quicker.
const pages = site(() => ({ '/demo/': demo(), '/demo/tiny.safetensors': fixture('tiny.safetensors') }));
/** One visit: each test goes on where the one before it ended. */
const onPage = pages.kept('/demo/?thread=main', { share: true });

/** A file to choose. @param {string} name @param {Buffer} buffer @param {string} [mimeType] */
const file = (name, buffer, mimeType = 'image/png') => ({ name, mimeType, buffer });
/** @param {string} name */
const model = (name) => file(name, readFileSync(fixture(name)), 'application/octet-stream');

/** Opens another model. @param {import('./browser.mjs').Visit} visit @param {string} name */
const open = (visit, name) => openModel(visit, model(name));

test('a picture unlike the training data is said to be so', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    assert.equal(await text(visit, 'likeness'), '', 'nothing of a sample');
    assert.equal(await page.locator('#likeness').getAttribute('role'), 'status');
    const onWhite = png(28, 28, (x, y) => (x > 9 && x < 18 && y > 4 ? 30 : 250));
    await work(visit, () => page.locator('#upload').setInputFiles(file('white.png', onWhite)));
    assert.match(await text(visit, 'likeness'), /^This image is unlike those that the model was trained on .*The image’s ground is light.*a dark one: try “Invert”/);
    await visit.screenshot('demo-opposite-ground');
    await work(visit, () => page.locator('#invert').click());
    assert.doesNotMatch(await text(visit, 'likeness'), /Invert/);
  });
});

/** The worker's answer is given one. */
test('a percentile is put into words and never rounded up', { timeout: SLOW }, async () => {
  await pages.visit('/demo/?model=tiny.safetensors#method=paper', {}, async (visit) => {
    const { page } = visit;
    // A page that is left while it fetches complains in some browsers.
    await start(visit);
    await page.addInitScript(() => {
      const { addEventListener } = Worker.prototype;
      Worker.prototype.addEventListener = function heard(type, listener, ...more) {
        const told = (event) => {
          const answers = event.data?.result;
          if (Array.isArray(answers) && answers[0]?.probabilities) {
            answers[0].typicality = { percentile: 99.96, unlike: true };
          }
          listener.call(this, event);
        };
        addEventListener.call(this, type, type === 'message' ? told : listener, ...more);
      };
    });
    await page.reload();
    await start(visit);
    assert.match(await text(visit, 'likeness'), /unlike those that the model was trained on \(beyond 99\.9.% of them\)/);
    await visit.screenshot('demo-unlike');
  });
});

test('files that are no pictures, or too many, are named', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    const photo = readFileSync(fixture('large.jpg'));
    const good = png(20, 20, (x) => 10 * x);
    const files = [
      file('notes.txt', Buffer.from('words and no picture'), 'text/plain'),
      file('good.png', good),
      file('half.jpg', photo.subarray(0, photo.length >> 1), 'image/jpeg'),
      file('again.png', good),
    ];
    await page.locator('#tab-train').click();
    await work(visit, () => page.locator('#train-upload').setInputFiles(files));
    assert.equal(await page.locator('#train-list li').count(), 2);
    const alert = await text(visit, 'alert');
    assert.match(alert, /^2 of 4.files could not be read: notes\.txt is no picture.*; half\.jpg is incomplete: its data end early/);
    assert.match(await text(visit, 'train-count'), /^2.images; all without a class: the classifier learns nothing from them\.$/);
    await visit.screenshot('demo-files-refused');

    await page.locator('#tab-explain').click();
    // One picture is shown: of a drop of several the page says which were left out.
    await work(visit, () => dropFiles(visit, '#drop', [files[0], files[1], files[3]].map(({ name, buffer }) => [name, buffer])));
    assert.match(await text(visit, 'alert'), /1 of 3.files could not be read: notes\.txt.*Only one picture is shown; left out: again\.png/);
    assert.match(await page.locator('#draw').getAttribute('aria-label'), /good\.png/);
    await page.evaluate(() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.setData('text/uri-list', 'https://example.org/shoe.png');
      document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
    });
    assert.match(await text(visit, 'alert'), /address was dropped/);
    await page.locator('#alert button').click();
  });
});

test('results say that their model has changed, and a new model offers no old one', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await more(page);
    await page.locator('#steps').selectOption('25');
    await page.locator('#noise').fill('0.1');
    await work(visit, () => page.locator('#explain').click());
    assert.ok((await shown(visit, 'result')) && !(await shown(visit, 'result-outdated')));
    await page.locator('#tab-generate').click();
    await page.locator('#generate-class').selectOption({ label: 'Dress' });
    await page.locator('#generate-count').fill('1');
    await page.locator('#generate-steps').selectOption('25');
    await work(visit, () => page.locator('#generate').click());
    assert.equal(await shown(visit, 'generate-outdated'), false);

    await page.locator('#tab-train').click();
    await page.locator('#train-add-sample').click();
    await page.locator('#train-add-sample').click();
    await page.locator('#train-steps').fill('1');
    await page.locator('#train-batch').fill('2');
    await work(visit, () => page.locator('#train').click());
    const download = await page.download(() => page.locator('#train-export').click());
    assert.equal(download.name, 'model-trained.safetensors');
    await idle(visit);
    await page.locator('#tab-explain').click();
    assert.match(await text(visit, 'result-outdated'), /of the model as it was before it was trained/);
    await page.locator('#tab-generate').click();
    assert.match(await text(visit, 'generate-outdated'), /before it was trained/);

    // Another model: no trained one to download, and labels that it does not have are not used in silence.
    await open(visit, 'tiny.safetensors');
    assert.match(await text(visit, 'generate-outdated'), /loaded before/);
    assert.equal(await page.locator('#generate-class').inputValue(), 'all', 'class 3 of another model was not chosen');
    await page.locator('#tab-train').click();
    assert.equal(await shown(visit, 'train-export'), false);
    assert.match(await text(visit, 'train-count'), /^4.images; all without a class.*; this model has no class \w+/);
    await visit.screenshot('demo-other-model');
  });
});

test('what the canvas shows is what the model gets', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await page.locator('#tab-explain').click();
    const side = Math.sqrt((await pixels(visit, 'draw')).length / 4);
    const level = (x, y) => (29 * x + 4 * y) % 256;
    await work(visit, () => page.locator('#upload').setInputFiles(file('exact.png', png(side, side, level))));
    const drawn = (await pixels(visit, 'draw')).filter((_, i) => i % 4 === 0);
    assert.deepEqual(drawn, Array.from({ length: side ** 2 }, (_, i) => level(i % side, Math.floor(i / side))));
    await work(visit, () => page.locator('#invert').click());
    const inverted = (await pixels(visit, 'draw')).filter((_, i) => i % 4 === 0);
    assert.deepEqual(inverted, drawn.map((v) => 255 - v));
    // Another model's size: the picture itself is prepared anew, inverted as it was.
    await open(visit, 'tiny-grey-classes.safetensors');
    assert.notEqual(side, 7);
    assert.equal((await pixels(visit, 'draw')).length, 4 * 49);
    const [seen] = await bars(visit);
    assert.match(seen, /RBC/);
  });
});

test('answers that are no numbers are not shown, and a failed training says what became of the model', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    visit.expected.push(/not.finite/i);
    await start(visit);
    await open(visit, 'broken.safetensors');
    assert.match(await text(visit, 'alert'), /left the range of numbers/);
    assert.deepEqual(await bars(visit), [], 'no probabilities of another image or model');
    await page.locator('#tab-train').click();
    const before = page.locator('#train-list .remove');
    while ((await before.count()) > 0) await before.first().click();
    await page.locator('#train-add-drawing').click();
    await page.locator('#train-list select').selectOption({ label: 'grey' });
    assert.match(await text(visit, 'train-count'), /^1.image\.$/);
    await page.locator('#train-steps').fill('2');
    await page.locator('#train-batch').fill('2');
    await work(visit, () => page.locator('#train').click());
    assert.match(await text(visit, 'train-summary'), /^Training failed after 0.steps: the model is as it was before\.$/);
    assert.equal(await shown(visit, 'train-export'), false);
    assert.match(await text(visit, 'alert'), /left the range of numbers/);
    assert.match(await text(visit, 'status'), /Stopped by an error/);
  });
});
