/**
 * The tab that measures: a folder and idx files of official test images, dropped and chosen, against what the library found
 * natively; what is left out, what is refused, and stopping.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { violations } from './axe.mjs';
import { SLOW, engine, site } from './browser.mjs';
import { assertReport } from './evaluations.mjs';
import { demo, fixture } from './paths.mjs';
import { UNASKED, openModel, pressOnce, shown, start, text, work } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** One visit: the second test goes on where the first one ended. */
const onPage = pages.kept(UNASKED, { context: { viewport: { width: 1200, height: 900 } } });
const want = JSON.parse(readFileSync(fixture('evaluations.json'), 'utf8'));
const folder = mkdtempSync(path.join(tmpdir(), 'duet-measure-'));
after(() => rmSync(folder, { recursive: true }));

/** @typedef {import('./browser.mjs').Visit} Visit */

/** A test set in folders, with what does not belong there. */
function garments() {
  const root = path.join(folder, 'garments');
  for (const name of want.folders.paths) {
    mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    cpSync(path.join(demo(), 'images', path.basename(name)), path.join(root, name));
  }
  mkdirSync(path.join(root, 'hats'));
  cpSync(path.join(demo(), 'images', '00000.png'), path.join(root, 'hats', 'cap.png'));
  writeFileSync(path.join(root, 'notes.txt'), 'not a picture');
  writeFileSync(path.join(root, '.DS_Store'), 'of a system');
  writeFileSync(path.join(root, 'BAG', 'broken.png'), 'no picture either');
  return root;
}

/** Drops a file or folder of this machine on an element, as a person does. @param {Visit} visit @param {string} selector @param {string[]} files */
async function drop({ page }, selector, files) {
  await page.locator(selector).scrollIntoViewIfNeeded();
  const { x, y, width } = await page.locator(selector).boundingBox();
  const session = await page.tab.createCDPSession();
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await session.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + 30, data });
  }
  await session.detach();
}

/** Chooses a folder, as the page hears of it: no driver can choose one in every engine. @param {Visit} visit @param {string} root */
function chooseFolder({ page }, root) {
  const names = readdirSync(root, { recursive: true }).map(String).filter((name) => statSync(path.join(root, name)).isFile());
  const files = names.map((name) => [path.join(path.basename(root), name), Uint8Array.from(readFileSync(path.join(root, name)))]);
  return page.evaluate((all) => {
    const made = all.map(([name, bytes]) =>
      Object.defineProperty(new File([bytes], name.split('/').at(-1)), 'webkitRelativePath', { value: name }));
    const input = document.getElementById('measure-folder');
    Object.defineProperty(input, 'files', { value: made, configurable: true });
    input.dispatchEvent(new Event('change', { bubbles: true }));
  }, files);
}

/** What "Download JSON" gives. @param {Visit} visit */
async function downloaded({ page }) {
  const download = await page.download(() => page.locator('#measure-save').click());
  return [download.name, JSON.parse(readFileSync(download.path, 'utf8'))];
}

/** Words of a table's cells, row by row. @param {Visit} visit @param {string} id */
const cells = ({ page }, id) => page.locator(`#${id} tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));

/** The two files of a set, packed or not. @param {string} prefix @param {boolean} packed */
const pair = (prefix, packed) =>
  ['images-idx3', 'labels-idx1'].map((part) => {
    const bytes = readFileSync(fixture(`t10k-${part}-ubyte`));
    return { name: `${prefix}-${part}-ubyte${packed ? '.gz' : ''}`, mimeType: 'application/octet-stream', buffer: packed ? gzipSync(bytes) : bytes };
  });

test('idx files: packed, part of them, damaged, and stopped half-way', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await page.locator('#tab-measure').click();
    await page.locator('#measure').click();
    assert.match(await text(visit, 'alert'), /no test set yet/);
    const files = page.locator('#measure-files');
    const choose = (list) => work(visit, () => files.setInputFiles(list));
    // The four official files: those for training are left out.
    await choose([...pair('train', true), ...pair('t10k', true)]);
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'measure-found'), /^t10k-images-idx3-ubyte\.gz: 64.images of 10 of/);
    assert.match(await text(visit, 'measure-left-out'), /^train-images.*train-labels.*not of the test set/);
    await page.locator('#measure-timesteps').selectOption('0');
    await work(visit, () => page.locator('#measure').click());
    assertReport((await downloaded(visit))[1], want.idx);
    assert.equal(await shown(visit, 'measure-noise-figure'), false);
    assert.match(await text(visit, 'measure-accuracy'), /^\d+\.\d.%$/);
    // A part, of each class its share.
    await page.locator('#measure-limit').fill('20');
    await work(visit, () => page.locator('#measure').click());
    // Until then the measurement of before is shown, and saved.
    await visit.until(() => /on 20 of 64.images/.test(document.getElementById('measure-words').textContent), { what: 'the part measured' });
    const [, part] = await downloaded(visit);
    assert.equal(part.images, 20);
    assert.ok(part.perClass.every(({ images }) => images >= 1 && images <= 3), JSON.stringify(part.perClass));

    // Stopped: what was shown stays, and the next measurement runs.
    await page.locator('#measure-limit').fill('1000');
    await pressOnce(visit, 'measure-progress-text', /^[1-9]\d* of 64.images, about .* left$/, 'measure-cancel');
    await work(visit, () => page.locator('#measure').click());
    assert.match(await text(visit, 'status'), /^Cancelled\./);
    assert.equal(await text(visit, 'alert'), '');
    assert.equal(await text(visit, 'measure-images'), '20');

    // What is no set says why, and the set of before stays.
    const [images, labels] = pair('t10k', false);
    const renamed = ({ name, ...rest }, buffer) => ({ ...rest, name, buffer });
    for (const [list, expected] of /** @type {[any[], RegExp][]} */ ([
      [[images], /Two idx files are needed.*there is 1.file/],
      [[images, { ...images, name: 'other-images-idx3-ubyte' }], /both files of images/],
      [[renamed(images, images.buffer.subarray(0, 5000)), labels], /t10k-images-idx3-ubyte announces 64 images of 28×28 and ends before that/],
      [[renamed(images, Buffer.concat([images.buffer, Buffer.alloc(1)])), labels], /goes on behind them/],
      [[renamed(labels, Buffer.concat([Buffer.from([0, 0, 8, 1, 0, 0, 0, 2]), Buffer.alloc(2)])), images], /64.images and t10k-labels-idx1-ubyte 2.labels/],
      [[{ ...images, name: 'x.gz', buffer: gzipSync(images.buffer).subarray(0, 3000) }, labels], /x\.gz is packed, and damaged/],
      [[{ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no idx file at all') }], /no pictures in folders.*notes\.txt/],
    ])) {
      await choose(list);
      assert.match(await text(visit, 'alert'), expected);
      assert.match(await text(visit, 'measure-found'), /^t10k-images-idx3-ubyte\.gz: 64/);
    }
    // Labels that are no classes of this model are told, not counted.
    const other = Buffer.from(labels.buffer);
    other[8] = 77;
    await choose([images, renamed(labels, other)]);
    assert.match(await text(visit, 'measure-found'), /: 63.images/);
    assert.match(await text(visit, 'measure-left-out'), /label 77: 1.image, no class of this model/);
  });
});

test('a dropped folder is measured as natively, and everything of it can be read', { timeout: SLOW }, async (t) => {
  // Unreadable pictures go to the console, too.
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await page.locator('#tab-measure').click();
    const root = garments();
    if (engine.lacks.drag) t.diagnostic(`the folder is chosen and not dropped: ${engine.lacks.drag}`);
    await work(visit, () => (engine.lacks.drag ? chooseFolder(visit, root) : drop(visit, '#measure-drop', [root])));
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'measure-found'), /^garments: 21.images of 10 of the model’s 10 classes\.$/);
    const leftOut = await page.locator('#measure-left-out li').allInnerTexts();
    assert.deepEqual(leftOut.map((one) => one.replaceAll('\u00a0', ' ')), ['garments/hats: 1 image, no class of this model', 'notes.txt: no picture']);
    await page.locator('#measure-timesteps').selectOption('5');
    await page.locator('#measure-seed').fill('3');
    await page.locator('#measure-limit').focus();
    // By keyboard: the form's own key.
    await work(visit, () => page.keyboard.press('Enter'));
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'status'), /^Done\. \d+\.\d.% of 20.images are recognised\. 1.picture could not be read\./);
    assert.match((await page.locator('#measure-left-out li').allInnerTexts()).at(-1), /BAG\/broken\.png: .*broken\.png/);

    const [name, json] = await downloaded(visit);
    assert.equal(name, 'model-measured.json');
    assert.deepEqual([json.model, json.data, json.imagesOfData, json.leftOut.length], ['model.safetensors', 'garments', 21, 3]);
    // The broken picture was of the images to come, too: the noise of each is by its number among those that can be read.
    assertReport(json, want.folders.report);
    const { calibration, confusion, noise_error: noise, protocol } = want.folders.report;
    const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
    assert.deepEqual([await text(visit, 'measure-accuracy'), await text(visit, 'measure-ece'), await text(visit, 'measure-images')], [calibration.accuracy, calibration.ece].map(percent).concat('20'));
    assert.match(await text(visit, 'measure-words'), /20 of 21.images of garments \(between \d+\.\d.% and \d+\.\d.% in 95 of 100/);
    assert.equal(await text(visit, 'measure-protocol'), protocol);
    const table = await cells(visit, 'measure-confusion');
    assert.deepEqual(table.slice(1).map((row) => row.slice(1).map(Number)), confusion.counts);
    assert.deepEqual(table[0].slice(1), table.slice(1).map(([first]) => first), 'columns and rows of the same classes');
    assert.equal((await cells(visit, 'measure-noise-table')).length, 1 + noise.length);
    assert.equal((await cells(visit, 'measure-bins')).length, 1 + calibration.bins.filter(({ count }) => count > 0).length);
    assert.equal(await page.locator('#measure-noise .dot').count(), noise.length);
    assert.equal(await page.locator('#measure-reliability .bin').count(), calibration.bins.filter(({ count }) => count > 0).length);
    const shape = await page.evaluate(() => ({
      tables: [...document.querySelectorAll('#measure-result table')].map((one) => [one.caption?.textContent.length > 10, [...one.querySelectorAll('th')].every(({ scope }) => scope !== '')]),
      pictures: [...document.querySelectorAll('#measure-result svg')].map((one) => one.getAttribute('aria-label').length > 30),
      regions: [...document.querySelectorAll('#measure-result .scroll')].every((one) => one.tabIndex === 0 && one.getAttribute('aria-label')),
      inline: document.querySelectorAll('[style]:not(#sample-grid, #sample-grid *, .bar, .matrix td)').length,
    }));
    assert.deepEqual(shape, { tables: Array(4).fill([true, true]), pictures: [true, true], regions: true, inline: 0 });
    // A tint, in both schemes, on what is right and what is wrong.
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      await page.emulateMedia({ colorScheme });
      const tints = await page.locator('#measure-confusion .right, #measure-confusion .wrong').evaluateAll((all) => all.map((cell) => getComputedStyle(cell).backgroundColor));
      assert.ok(tints.length >= 10 && new Set(tints).size >= 2, String(tints));
      assert.ok(tints.every((tint) => !/, 0\)|\/ 0\)|transparent/.test(tint)), String(tints));
      for (const width of [1200, 320]) {
        await page.setViewportSize({ width, height: 900 });
        await page.waitForTimeout(100);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(wide <= 0, `${wide} pixels too wide at ${width}`);
        assert.deepEqual(await violations(visit, colorScheme), [], `${colorScheme}, ${width} pixels`);
        await visit.screenshot(`demo-measured-${width}-${colorScheme}`);
      }
      await page.setViewportSize({ width: 1200, height: 900 });
    }

    // Another model: the measurement says so, and its classes are looked for anew.
    await openModel(visit, { name: 'tiny.safetensors', mimeType: 'application/octet-stream', buffer: readFileSync(fixture('tiny.safetensors')) });
    assert.match(await text(visit, 'measure-outdated'), /This measurement is of the model that was loaded before/);
    assert.match(await text(visit, 'measure-found'), /no image is of a class of this model, which has dark, grey, light\.$/);
    await page.locator('#measure').click();
    assert.match(await text(visit, 'alert'), /No image of the test set is of a class/);
  });
});
