/**
 * The tab that trains a new model and what lies outside of the page: recipes of the command, opened and handed out, and folders
 * that are remembered between visits.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { fashion, idxFiles } from './fashion.mjs';
import { command, demo } from './paths.mjs';
import { png } from './png.mjs';
import { dropFiles, idle, shown, start, text } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));

/** @typedef {import('./browser.mjs').Visit} Visit */

/** A recipe of the command that says much of files, and of what a page does not know. */
const TOML = `
[data]
kind = "folder"
path = "pets"
test_share = 0.2
ground = 255
[model]
image_size = 16
in_channels = 3
num_channels = 8
num_groups = 4
num_res_blocks = 1
channel_mult = [1, 2]
attention_resolutions = []
[train]
steps = 2
batch_size = 4
learning_rate = 0.002
classifier_input = "both"
lr_schedule = "cosine"
log_every = 1
save_every = 1
sample_steps = "2"
keep_best = "accuracy"
eval_every = 2
max_time = "2h"
`;

/** Opens the half of the tab that makes new models, all of it. @param {Visit} visit */
async function open(visit) {
  const { page } = visit;
  await start(visit);
  await page.locator('#tab-train').click();
  await page.locator('input[name=train-way][value=new]').check();
  await page.evaluate(() => document.querySelectorAll('#new-form details').forEach((box) => (box.open = true)));
}

/** @param {Visit} visit @param {string} name @param {string} words */
const give = ({ page }, name, words) =>
  page.locator('#new-recipe-open').setInputFiles({ name, mimeType: 'application/toml', buffer: Buffer.from(words) });

/** Waits until nothing is trained. @param {Visit} visit */
const ended = (visit) =>
  visit.until(() => document.getElementById('new-run').dataset.running === 'false', { what: 'the training to end' });

test('recipes of the command are opened, and those of the page are the command\'s', { timeout: SLOW }, async () => {
  await pages.visit('/demo/', { expected: [/num_chanels/, /unclosed|line 2/] }, async (visit) => {
    const { page } = visit;
    await open(visit);
    await give(visit, 'pets.toml', TOML);
    await visit.until(() => !document.getElementById('new-recipe-left-out-box').hidden, { what: 'what is left out' });
    const left = await page.evaluate(() => [...document.querySelectorAll('#new-recipe-left-out li')].map((item) => item.textContent));
    assert.deepEqual(
      left.map((words) => words.split(':')[0]),
      ['data.kind = "folder"', 'data.path = "pets"', 'data.test_share = 0.2', 'train.keep_best = "accuracy"', 'train.max_time = "2h"'],
    );
    const field = (/** @type {string} */ id) => page.locator(`#${id}`).inputValue();
    assert.deepEqual([await field('new-size'), await field('new-channels'), await field('new-steps'), await field('new-rate')], ['16', '3', '2', '0.002']);
    assert.equal(await field('new-samples'), '5000', 'what it leaves out has the command’s default');
    // A network that is none of the page's is not made one of them when a field changes.
    await give(visit, 'other.toml', TOML.replace('num_groups = 4', 'num_groups = 2'));
    await visit.until(() => document.getElementById('new-network').value === '', { what: 'another network' });
    await page.locator('#new-steps').fill('3');
    assert.equal(JSON.parse(await field('new-recipe')).model.num_groups, 2);
    await give(visit, 'pets.toml', TOML);
    await visit.until(() => document.getElementById('new-network').value === 'tiny', { what: 'the recipe again' });
    // Images propose nothing to a recipe that was chosen.
    await dropFiles(visit, '#new-drop', idxFiles('train', fashion('train', 48)));
    await visit.until(() => /48.images/.test(document.getElementById('new-found').textContent), { what: 'the images' });
    await idle(visit);
    assert.equal(await field('new-size'), '16');
    await clean(visit, 'a recipe that was opened');
    await page.setViewportSize({ width: 320, height: 900 });
    await visit.screenshot('demo-new-recipe-320');
    await page.setViewportSize({ width: 1280, height: 900 });
    await visit.screenshot('demo-new-recipe');

    // What is handed out, the command reads: as JSON, with the classes of the images.
    await page.locator('#new-name').fill('My garments');
    const file = await page.download(() => page.locator('#new-recipe-download').click());
    assert.equal(file.name, 'My-garments.json');
    const recipe = JSON.parse(readFileSync(file.path, 'utf8'));
    assert.deepEqual([recipe.data, recipe.model.image_size, recipe.model.class_names.length, recipe.train.keep_best], [{ ground: 255 }, 16, 10, undefined]);
    const told = JSON.parse(execFileSync(command(), ['--json', 'info', file.path], { encoding: 'utf8' }));
    assert.deepEqual([told.model.image_size, told.model.num_classes], [16, 10]);
    // And the page takes it back, without anything to leave out.
    await give(visit, 'mine.json', JSON.stringify(recipe));
    await visit.until(() => document.getElementById('new-recipe-left-out-box').hidden, { what: 'nothing to leave out' });
    assert.deepEqual(JSON.parse(await field('new-recipe')), recipe);

    const before = await field('new-recipe');
    for (const [words, what] of [[TOML.replace('num_channels', 'num_chanels'), 'model.num_chanels'], ['{\n"model": {,}}', 'line 2']]) {
      await give(visit, 'wrong.toml', words);
      await visit.until((/** @type {string} */ part) => document.getElementById('alert').textContent.includes(part), { what, argument: what });
    }
    assert.equal(await field('new-recipe'), before, 'what is refused changes nothing');
  });
});

test('a folder is remembered, a finished training goes on with it (a picker over OPFS; Chromium alone has one)', { timeout: 2 * SLOW }, async (t) => {
  await pages.visit('/demo/', { expected: [/attached-images|QuotaExceeded|no more room/] }, async (visit) => {
    const { page } = visit;
    if (!(await page.evaluate(() => 'showDirectoryPicker' in window))) {
      t.skip('this browser has no picker of folders');
      return;
    }
    await open(visit);
    await give(visit, 'pets.toml', TOML.replace('in_channels = 3', 'in_channels = 1'));
    await visit.until(() => !document.getElementById('new-recipe-left-out-box').hidden, { what: 'the recipe' });
    const picture = (/** @type {number} */ level) => [...png(20, 20, (x, y) => (x > 5 && y > 5 ? level : 0))];
    await page.evaluate(async (pictures) => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('pets', { create: true });
      for (const [c, name] of ['cat', 'dog', 'owl'].entries()) {
        const folder = await root.getDirectoryHandle(name, { create: true });
        for (let i = 0; i < 4; i += 1) {
          const stream = await (await folder.getFileHandle(`${i}.png`, { create: true })).createWritable();
          await stream.write(Uint8Array.from(pictures[4 * c + i]));
          await stream.close();
        }
      }
      window.showDirectoryPicker = async () => root;
      // No room for the images: the folder is all that is left of them.
      const own = FileSystemFileHandle.prototype.createWritable;
      FileSystemFileHandle.prototype.createWritable = function (...options) {
        if (this.name === 'attached-images') return Promise.reject(new DOMException('full', 'QuotaExceededError'));
        return own.apply(this, options);
      };
    }, Array.from({ length: 12 }, (_, i) => picture(60 + 12 * i)));
    assert.equal(await shown(visit, 'new-again'), false);
    await page.locator('label[for=new-folder]').click();
    await visit.until(() => /12.images of 3 classes/.test(document.getElementById('new-found').textContent), { what: 'the images' });
    await page.locator('#new-classes li:nth-child(3) .remove').click();
    await page.locator('#new-classes input').first().fill('tomcat');
    await page.locator('#new-start').click();
    await visit.until(() => document.getElementById('new-run').dataset.running !== undefined, { what: 'the run' });
    await ended(visit);
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'new-state'), /is trained: 2.steps\.$/);

    await page.goto(`${visit.url}/demo/`);
    await open(visit);
    await visit.until(() => document.querySelectorAll('#kept-list form').length === 1, { what: 'the finished training' });
    assert.match(await text(visit, 'kept-list'), /finished, all 2 steps/);
    assert.equal(await page.locator('#kept-list button').filter({ hasText: 'Resume' }).count(), 0, 'there is nothing to resume');
    await clean(visit, 'a finished training');
    await page.setViewportSize({ width: 320, height: 900 });
    await visit.screenshot('demo-new-finished-320');
    await page.setViewportSize({ width: 1280, height: 900 });
    await visit.screenshot('demo-new-finished');

    // The folder is there with a click, once the visitor allows it.
    const answer = (/** @type {string} */ state) =>
      page.evaluate((said) => {
        window.asked = 0;
        FileSystemHandle.prototype.queryPermission = async () => 'prompt';
        FileSystemHandle.prototype.requestPermission = async () => {
          window.asked += 1;
          return said;
        };
      }, state);
    await answer('denied');
    await page.locator('#kept-list input').fill('1');
    const on = page.locator('#kept-list button').filter({ hasText: 'Train on' });
    await on.click();
    await visit.until(() => /not allowed to read the folder pets/.test(document.getElementById('alert').textContent), { what: 'the refusal' });
    await ended(visit);
    await answer('granted');
    await page.locator('#new-again').click();
    await visit.until(() => /12.images of 3 classes/.test(document.getElementById('new-found').textContent), { what: 'the images again' });
    await idle(visit);
    // The training's own choice counts, not what the images are called now.
    await page.locator('#kept-list input').fill('1');
    await on.click();
    await visit.until(() => /^Training|^pets|trained/.test(document.getElementById('new-state').textContent), { what: 'the run' });
    await ended(visit);
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'new-state'), /is trained: 3.steps\.$/, 'one more step, and not as many again');
    assert.match(await text(visit, 'new-of'), /8.images of 2 classes/);
    assert.equal(await page.evaluate(() => window.asked), 2, 'each time it is asked for');
    await visit.until(() => /finished, all 3 steps/.test(document.getElementById('kept-list').textContent), { what: 'the list' });
    const file = await page.download(() => page.locator('#kept-list button').filter({ hasText: 'Recipe' }).click());
    assert.equal(file.name, 'pets.json');
    const recipe = JSON.parse(readFileSync(file.path, 'utf8'));
    assert.deepEqual([recipe.train.steps, recipe.model.class_names], [3, ['tomcat', 'dog']]);
  });
});
