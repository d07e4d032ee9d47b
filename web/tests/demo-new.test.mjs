/**
 * The tab that trains a new model: images and classes, the recipe, a training that waits, is stopped, reloaded and gone on with.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { fashion, idxFiles } from './fashion.mjs';
import { demo } from './paths.mjs';
import { png } from './png.mjs';
import { UNASKED, dropFiles, idle, pressOnce, shown, start, text } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** One visit: the second test goes on where the first one ended. */
const onPage = pages.kept(UNASKED);

/** @typedef {import('./browser.mjs').Visit} Visit */

/** The idx files of some images, packed. @returns {[string, Buffer][]} */
const files = () => idxFiles('train', fashion('train', 48)).map(([name, bytes]) => [`${name}.gz`, gzipSync(bytes)]);

/** Opens the half of the tab that makes new models. @param {Visit} visit */
async function open(visit) {
  const { page } = visit;
  await start(visit);
  await page.locator('#tab-train').click();
  await page.locator('input[name=train-way][value=new]').check();
}

/** Fills in a recipe that a software device can do. @param {Visit} visit @param {number} steps */
async function small({ page }, steps) {
  await page.locator('#new-network').selectOption('tiny');
  await page.locator('#new-steps').fill(String(steps));
  await page.locator('#new-batch').fill('4');
  await page.evaluate(() => document.querySelectorAll('#new-form details').forEach((box) => (box.open = true)));
  await page.locator('#new-save').fill('2');
  await page.locator('#new-samples').fill('0');
  // What no field offers is written.
  await page.evaluate(() => {
    const area = document.getElementById('new-recipe');
    const recipe = JSON.parse(area.value);
    recipe.model.channel_mult = [1, 2];
    recipe.train.sample_steps = '2';
    area.value = JSON.stringify(recipe);
    area.dispatchEvent(new Event('input', { bubbles: true }));
  });
}

/** Waits until nothing is trained. @param {Visit} visit */
const ended = (visit) =>
  visit.until(() => document.getElementById('new-run').dataset.running === 'false', { what: 'the training to end' });

/** Shows a page again that was hidden, as its own code hears of it. @param {Visit} visit */
const unhide = ({ page }) =>
  page.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event('visibilitychange'));
  });

test('a new model: dropped, trained, hidden, stopped, reloaded, gone on with, used and deleted', { timeout: 3 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await open(visit);
    assert.equal(await shown(visit, 'train-list'), false, 'the other half is out of sight');
    await page.locator('#new-start').click();
    assert.match(await text(visit, 'alert'), /at least two classes/);

    await dropFiles(visit, '#new-drop', files());
    await visit.until(() => /48.images of 10 classes/.test(document.getElementById('new-found').textContent), { what: 'the images' });
    assert.equal(await page.locator('#new-size').inputValue(), '28');
    assert.equal(await page.locator('#new-name').inputValue(), 'My model');
    // Two classes become one, one is left out.
    const name = page.locator('#new-classes input');
    await name.nth(1).fill('0');
    await name.nth(2).fill('');
    assert.match(await text(visit, 'new-found'), /of 8 classes; \d+ left out/);
    await name.nth(1).fill('1');
    await name.nth(2).fill('2');
    await page.locator('#new-name').fill('Garments');
    await small(visit, 6);
    const recipe = JSON.parse(await page.locator('#new-recipe').inputValue());
    assert.deepEqual([recipe.train.steps, recipe.train.batch_size, recipe.model.num_channels], [6, 4, 8]);
    // A field that is changed leaves in the recipe what it does not offer.
    await page.locator('#new-steps').fill('7');
    const changed = JSON.parse(await page.locator('#new-recipe').inputValue());
    assert.deepEqual([changed.train.steps, changed.model.channel_mult, changed.train.sample_steps], [7, [1, 2], '2']);
    await page.locator('#new-steps').fill('6');
    await clean(visit, 'a new model, before');
    await page.setViewportSize({ width: 1280, height: 900 });

    // Hidden after its second step it waits, and says so; stopped it has saved.
    await page.evaluate(() => {
      const words = document.getElementById('new-progress-text');
      const watch = new MutationObserver(() => {
        if (!/^step 2 /.test(words.textContent)) return;
        watch.disconnect();
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
      });
      watch.observe(words, { childList: true });
    });
    await page.locator('#new-start').click();
    await visit.until(() => /^Waits: this tab is hidden/.test(document.getElementById('new-state').textContent), { what: 'waiting' });
    assert.match(await page.title(), /^Waits/);
    const waiting = await text(visit, 'new-progress-text');
    await page.waitForTimeout(500);
    assert.equal(await text(visit, 'new-progress-text'), waiting, 'no step is done meanwhile');
    await pressOnce(visit, 'new-progress-text', /^step [345] /, 'new-stop');
    await page.evaluate(() => {
      globalThis.told = [];
      const state = document.getElementById('new-state');
      new MutationObserver(() => globalThis.told.push(state.textContent)).observe(state, { childList: true });
    });
    await unhide(visit);
    await ended(visit);
    assert.match((await page.evaluate(() => globalThis.told)).join('\n'), /waited \d+.seconds? while/);
    assert.match(await text(visit, 'new-state'), /^Stopped\. Its checkpoint of step [2-5] stays\.$/);
    assert.equal(await text(visit, 'alert'), '', 'stopping is no failure');

    // All that is in memory goes; what is kept does not.
    await page.reload();
    await open(visit);
    await visit.until(() => document.querySelectorAll('#kept-list li').length === 1, { what: 'the kept training' });
    assert.match(await text(visit, 'kept-list'), /Garments\s*step [2-5] of 6,/);
    await page.locator('#kept-list button').first().click();
    await visit.until(() => document.getElementById('new-run').dataset.running !== undefined, { what: 'the run' });
    await ended(visit);
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'new-state'), /^Garments is trained: 6.steps\.$/);
    assert.match(await text(visit, 'new-of'), /images? of 10 classes; 4.others held out/);
    assert.match(await text(visit, 'new-saved'), /kept in this browser: .* at step 6/);
    assert.equal(await page.locator('#new-samples-grid canvas').count(), 10);
    for (const id of ['new-mse-curve', 'new-classifier-curve', 'new-accuracy-curve']) {
      assert.match(await page.locator(`#${id} svg`).getAttribute('aria-label'), /at step 6 of 6|at 6\./, id);
    }
    await clean(visit, 'a new model, trained');
    await page.setViewportSize({ width: 1280, height: 900 });
    await visit.screenshot('demo-new');

    const file = await page.download(() => page.locator('#kept-list button').filter({ hasText: 'Download' }).click());
    assert.equal(file.name, 'Garments-6.safetensors');
    const head = readFileSync(file.path);
    const metadata = JSON.parse(head.subarray(8, 8 + Number(head.readBigUInt64LE(0))).toString());
    assert.equal(JSON.parse(metadata.__metadata__.duet).training.step, 6);

    await page.locator('#new-use').click();
    await visit.until(() => /Garments/.test(document.getElementById('model-menu').textContent), { what: 'the model in the menu' });
    await idle(visit);
    await page.locator('#tab-explain').click();
    assert.equal(await page.locator('#probabilities li').count() >= 2, true, 'the other tabs use it');

    await page.locator('#tab-train').click();
    const remove = page.locator('#kept-list button').filter({ hasText: 'Delete' });
    await remove.click();
    assert.equal(await page.locator('#kept-list li').count(), 1, 'asked once more');
    await remove.click();
    await visit.until(() => document.querySelectorAll('#kept-list li').length === 0, { what: 'the training to go' });
    // The download brings it back, here or elsewhere.
    await page.locator('#kept-open').setInputFiles({ name: file.name, mimeType: 'application/octet-stream', buffer: head });
    await visit.until(() => /^Garments\s*finished, all 6 steps/.test(document.getElementById('kept-list').innerText), { what: 'the download' });
  });
});

test('folders of pictures, and recipes with mistakes', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    visit.expected.push(/batch_syze/, /data\.path/);
    await open(visit);
    const kept = await page.locator('#kept-list li').count();
    const picture = (/** @type {number} */ level) => png(20, 20, (x, y) => (x > 5 && y > 5 ? level : 0));
    const files = ['cat', 'dog'].flatMap((name, c) =>
      [0, 1].map((i) => [`pets/${name}/${i}.png`, [...picture(100 + 50 * c + i)]]),
    );
    // A folder as the page hears of it: no driver can choose one in every engine.
    await page.evaluate((all) => {
      const made = all.map(([name, bytes]) =>
        Object.defineProperty(new File([Uint8Array.from(bytes)], name.split('/').at(-1)), 'webkitRelativePath', { value: name }));
      const input = document.getElementById('new-folder');
      Object.defineProperty(input, 'files', { value: made, configurable: true });
      input.dispatchEvent(new Event('change', { bubbles: true }));
    }, files);
    await visit.until(() => /4.images of 2 classes/.test(document.getElementById('new-found').textContent), { what: 'the images' });
    assert.deepEqual(
      await page.evaluate(() => [...document.querySelectorAll('#new-classes input')].map((input) => input.value)),
      ['cat', 'dog'],
    );
    assert.deepEqual([await page.locator('#new-channels').inputValue(), await page.locator('#new-size').inputValue()], ['1', '28'], 'grey pictures of 20 pixels');
    await page.evaluate(() => document.querySelectorAll('#new-form details').forEach((box) => (box.open = true)));
    const recipe = page.locator('#new-recipe');
    const good = await recipe.inputValue();
    await recipe.fill('{ "model": ');
    assert.match(await text(visit, 'new-recipe-note'), /no JSON/);
    assert.equal(await recipe.getAttribute('aria-invalid'), 'true');
    await page.locator('#new-start').click();
    assert.match(await text(visit, 'alert'), /The recipe is no JSON/);
    for (const [wrong, field] of [
      [{ ...JSON.parse(good), train: { batch_syze: 4 } }, 'train.batch_syze'],
      [{ ...JSON.parse(good), data: { path: 'images' } }, 'data.path'],
    ]) {
      await recipe.fill(JSON.stringify(wrong));
      await page.locator('#new-start').click();
      const refused = (/** @type {string} */ field) =>
        document.getElementById('alert').textContent.includes(field) && document.getElementById('new-run').dataset.running === 'false';
      await visit.until(refused, { what: `the refusal of ${field}`, argument: field });
      assert.match(await text(visit, 'new-state'), /could not begin/);
    }
    assert.equal(await page.locator('#kept-list li').count(), kept, 'nothing is left of what did not begin');
  });
});
