/**
 * The demo page, driven as a person would: by mouse and by keyboard, with everything it shows checked on the screen.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { demo, fixture } from './paths.mjs';
import { png } from './png.mjs';
import { bars, idle, more, openModel, pixels, shown, start, text, work } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** One visit: each test goes on where the one before it ended. */
const onPage = pages.kept('/demo/');

/** @typedef {import('./browser.mjs').Visit} Visit */

/** What axe-core finds of a tab that has been used, and the window as it was. @param {Visit} visit @param {string} tab */
async function accessible(visit, tab) {
  await clean(visit, tab);
  await visit.page.emulateMedia({ colorScheme: 'light' });
  await visit.page.setViewportSize({ width: 1280, height: 720 });
}

/** @param {Visit} visit @param {string} steps @param {string} noise */
async function settings({ page }, steps, noise) {
  await more(page);
  await page.locator('#steps').selectOption(steps);
  await page.locator('#noise').fill(noise);
}

test('explaining', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page, context } = visit;
    await start(visit);
    const samples = page.locator('#sample-grid button');
    assert.ok((await samples.count()) >= 2, 'samples to choose from');
    const label = await samples.nth(1).getAttribute('data-label');
    assert.ok(label !== null && label !== '', 'a sample tells its class');

    await work(visit, () => samples.nth(1).click());
    const seen = await bars(visit);
    assert.ok(seen.length >= 2 && seen.every((one) => /\d/.test(one)), `probabilities: ${seen.join('; ')}`);
    const image = await pixels(visit, 'draw');
    assert.ok(new Set(image).size > 2, 'the sample is drawn');

    await settings(visit, '50', '0.2');
    const options = await page.locator('#target option').allInnerTexts();
    const target = options.find((name) => name !== label);
    await page.locator('#target').selectOption({ label: target });
    await page.locator('#seed').fill('3');
    assert.equal(await shown(visit, 'result'), false, 'no result yet');
    await page.locator('#explain').click();
    await visit.until(() => document.getElementById('explain-progress').value > 0, { what: 'progress' });
    assert.equal(await page.evaluate(() => document.documentElement.dataset.busy), 'true');
    assert.ok(await page.locator('#cancel').isEnabled(), 'what runs can be cancelled');
    await idle(visit);
    assert.ok(await shown(visit, 'result'), 'the result is shown');
    for (const id of ['result-original', 'result-counterfactual', 'result-difference']) {
      assert.ok(new Set(await pixels(visit, id)).size > 2, `${id} shows something`);
    }
    assert.equal(await shown(visit, 'result-noised'), false, 'a noised picture is of the paper’s method');
    assert.equal(await shown(visit, 'gallery-box'), false, 'one answer needs no gallery');
    const original = await pixels(visit, 'result-original');
    const counterfactual = await pixels(visit, 'result-counterfactual');
    assert.notDeepEqual(counterfactual, original);
    assert.match(await text(visit, 'verdict'), /→.*decision/s);
    assert.match(
      await text(visit, 'honesty'),
      /^Changes \d+.% of the picture; (not reached in 4 tries|reached at (the first try|rung [234] of 4, strength [\d.]+)); unlike training data: (no|yes.*)\.$/,
    );
    // The share that is told is that of pixels that differ by more than can be seen.
    const seenShare = original.filter((v, i) => i % 4 === 0 && Math.abs(v - counterfactual[i]) > 8).length / 784;
    const told = Number(/(\d+).%/.exec(await text(visit, 'honesty'))[1]);
    assert.ok(Math.abs(100 * seenShare - told) < 1.5, `${told} % are told, ${100 * seenShare} are seen`);
    // From the original to the counterfactual by keys, and the outlines by a tick.
    assert.deepEqual(await pixels(visit, 'result-stage'), original, 'it begins with the original');
    const outlined = (await pixels(visit, 'result-outline')).filter((v, i) => i % 4 === 3 && v > 0).length;
    assert.ok(outlined > 100, 'what changed is outlined');
    await page.locator('#compare').focus();
    await page.keyboard.press('End');
    assert.deepEqual(await pixels(visit, 'result-stage'), counterfactual);
    assert.equal(await page.locator('#compare').getAttribute('aria-valuetext'), 'counterfactual');
    await page.keyboard.press('ArrowLeft');
    assert.notDeepEqual(await pixels(visit, 'result-stage'), counterfactual);
    assert.match(await page.locator('#result-stage').getAttribute('aria-label'), /^99.% of the way; outlined: the \d+.% that change$/);
    await page.locator('#outline').uncheck();
    assert.equal(await shown(visit, 'result-outline'), false);
    await page.locator('#outline').check();
    const sheet = await page.download(() => page.locator('#result-save').click());
    assert.equal(sheet.name, 'duet-counterfactual.png');
    const bytes = readFileSync(sheet.path);
    assert.ok(bytes.subarray(1, 4).toString() === 'PNG' && bytes.readUInt32BE(16) > 4 * 168, 'a picture of four tiles');
    assert.ok(await page.locator('#curve svg, #curve canvas').first().isVisible(), 'the curve is drawn');
    await visit.screenshot('demo-explained');
    await page.locator('#about summary').click();
    await page.locator('#keep').check();
    await accessible(visit, 'explain');
    await page.locator('#keep').uncheck();

    // Cancelled on the way: the page says so and keeps the result.
    await settings(visit, '100', '0.6');
    await page.locator('#explain').click();
    await visit.until(() => document.getElementById('explain-progress').value > 0, { what: 'progress again' });
    await work(visit, () => page.locator('#cancel').click());
    assert.match(await text(visit, 'status'), /cancel/i);
    assert.equal(await text(visit, 'alert'), '', 'cancelling is no failure');
    assert.deepEqual(await pixels(visit, 'result-counterfactual'), counterfactual);

    // Everything needed is there: without a network the same question gets the same answer.
    await context.setOffline(true);
    visit.expected.push(/ERR_INTERNET_DISCONNECTED/);
    const asked = visit.requests.length;
    assert.equal(await page.evaluate(() => fetch('models.json').then(() => 'an answer', () => 'none')), 'none', 'offline');
    await settings(visit, '50', '0.2');
    await work(visit, () => page.locator('#explain').click());
    assert.deepEqual(await pixels(visit, 'result-counterfactual'), counterfactual, 'offline, the same seed');
    assert.equal(await text(visit, 'alert'), '');
    assert.deepEqual(visit.requests.slice(asked), [], 'nothing reached the server, from no thread');
    await context.setOffline(false);
  });
});

test('uploading and drawing', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    const before = await bars(visit);
    const picture = png(60, 40, (x, y) => (x > 20 && x < 40 && y > 5 ? 230 : 10));
    await work(visit, () =>
      page.locator('#upload').setInputFiles({ name: 'shirt.png', mimeType: 'image/png', buffer: picture }),
    );
    const uploaded = await pixels(visit, 'draw');
    const greys = uploaded.filter((_, i) => i % 4 === 0);
    assert.ok(greys.includes(10) && greys.some((level) => level > 200), 'the picture is on the canvas');
    const after = await bars(visit);
    assert.notDeepEqual(after, before, 'another image, other probabilities');

    await page.locator('#draw').scrollIntoViewIfNeeded();
    const box = await page.locator('#draw').boundingBox();
    await page.mouse.move(box.x + box.width * 0.1, box.y + box.height * 0.3);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.9, box.y + box.height * 0.6, { steps: 8 });
    await page.mouse.up();
    await idle(visit);
    assert.notDeepEqual(await pixels(visit, 'draw'), uploaded, 'a stroke is on the canvas');

    await work(visit, () =>
      page.locator('#upload').setInputFiles({ name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('no picture') }),
    );
    assert.notEqual(await text(visit, 'alert'), '', 'a file that is no picture is refused in words');
    // The page writes what it refused to the console, too.
    visit.expected.push(/no picture|decode|InvalidStateError|could not|cannot/i);
    await page.locator('#alert button').click();
  });
});

test('generating', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await page.locator('#tab-generate').click();
    await page.locator('#generate-class').selectOption({ index: 1 });
    await page.locator('#generate-count').fill('2');
    await page.locator('#generate-steps').selectOption('25');
    await work(visit, () => page.locator('#generate').click());
    const canvases = page.locator('#generate-grid canvas');
    assert.equal(await canvases.count(), 2);
    await visit.screenshot('demo-generated');
    await accessible(visit, 'generate');
    await page.locator('#generate-steps').selectOption('100');
    await page.locator('#generate').click();
    await visit.until(() => document.documentElement.dataset.busy === 'true', { what: 'generating' });
    await page.waitForTimeout(200);
    await work(visit, () => page.locator('#generate-cancel').click());
    assert.match(await text(visit, 'status'), /cancel/i);
    assert.equal(await text(visit, 'alert'), '');
  });
});

test('training', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    const before = await bars(visit);
    await page.locator('#tab-train').click();
    for (let i = 0; i < 4; i += 1) await page.locator('#train-add-sample').click();
    assert.equal(await page.locator('#train-list li').count(), 4);
    await page.locator('#train-steps').fill('3');
    await page.locator('#train-batch').fill('2');
    await page.locator('#train-rate').selectOption('0.001');
    await work(visit, () => page.locator('#train').click());
    assert.ok(await shown(visit, 'train-loss'), 'the loss is shown');
    assert.match(await text(visit, 'train-loss'), /\d/);
    await visit.screenshot('demo-trained');
    await accessible(visit, 'train');
    const download = await page.download(() => page.locator('#train-export').click());
    assert.match(download.name, /\.safetensors$/);
    const file = readFileSync(download.path);
    assert.equal(file.subarray(8, 9).toString(), '{', 'a safetensors file');
    await idle(visit);
    assert.notDeepEqual(await bars(visit), before, 'the other tabs use the trained model');
    await page.locator('#train-steps').fill('200');
    await page.locator('#train').click();
    await visit.until(() => document.documentElement.dataset.busy === 'true', { what: 'training' });
    await page.waitForTimeout(200);
    await work(visit, () => page.locator('#train-cancel').click());
    assert.match(await text(visit, 'status'), /cancel/i);
    assert.equal(await text(visit, 'alert'), '');
  });
});

test('a file that is no model', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    visit.expected.push(/BadCheckpoint|checkpoint/i);
    await start(visit);
    await page.locator('#tab-explain').click();
    const file = { name: 'bad.safetensors', mimeType: 'application/octet-stream', buffer: Buffer.alloc(100, 7) };
    await work(visit, () => page.locator('#open-model').setInputFiles(file));
    assert.match(await text(visit, 'alert'), /bad\.safetensors/);
    await visit.ready();
    // The model before it still works.
    await work(visit, () => page.locator('#sample-grid button').first().click());
    assert.ok((await bars(visit)).length >= 2);
    await openModel(visit, { ...file, name: 'good.safetensors', buffer: readFileSync(fixture('tiny.safetensors')) });
    assert.equal(await text(visit, 'alert'), '', 'the alert goes when something else starts');
  });
});
