/**
 * What the demo page offers beside one counterfactual: every class at once, several answers, the paper's method, labels with
 * switches, and links to a question.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { demo, fixture } from './paths.mjs';
import { idle, more, openModel, pixels, shown, start, text, work } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** One visit: each test goes on with what the one before it left in the form. */
const onPage = pages.kept('/demo/', { context: { permissions: ['clipboard-read', 'clipboard-write'] } });

/** What is said of the gallery's columns, and which is chosen. @param {import('./browser.mjs').Page} page */
const gallery = (page) =>
  page.locator('#gallery button').evaluateAll((all) => all.map((one) => [one.title, one.getAttribute('aria-pressed') === 'true']));

test('every class at once, one of them large', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await more(page);
    await page.locator('#steps').selectOption('25');
    await work(visit, () => page.locator('#explain-all').click());
    assert.equal(await text(visit, 'alert'), '');
    const columns = await gallery(page);
    const labels = await page.locator('#target option').allInnerTexts();
    const own = await page.locator('#probabilities .best').getAttribute('data-label');
    assert.deepEqual(columns.map(([label]) => label.split(':')[0]), labels.filter((label) => label !== own));
    for (const [label] of columns) assert.match(label, /: (not )?reached, probability \S+.%, changes \S+.% of the picture$/);
    assert.equal(columns.filter(([, chosen]) => chosen).length, 1);
    assert.match(page.url(), /#sample=\d+\.png&target=.*&steps=25$/);
    await visit.screenshot('demo-every-class');
    // By keys: the last one, chosen, is shown large.
    const before = await pixels(visit, 'result-counterfactual');
    await page.locator('#gallery [aria-pressed=true]').focus();
    await page.keyboard.press('End');
    await page.keyboard.press('Enter');
    assert.deepEqual((await gallery(page)).map(([, chosen]) => chosen), columns.map((_, i) => i === columns.length - 1));
    assert.notDeepEqual(await pixels(visit, 'result-counterfactual'), before);
    assert.match(await page.locator('#result-counterfactual').getAttribute('aria-label'), new RegExp(`towards ${labels.at(-1)}`));
    const sheet = await page.download(() => page.locator('#result-save').click());
    const bytes = readFileSync(sheet.path);
    assert.ok(bytes.readUInt32BE(20) > 9 * 112, 'a row for each class');
  });
});

test('several answers, and the method of the paper', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await more(page);
    await page.locator('#steps').selectOption('25');
    await page.locator('#variants').selectOption('3');
    await work(visit, () => page.locator('#explain').click());
    assert.deepEqual((await gallery(page)).map(([label, chosen]) => [label.split(':')[0], chosen]), [['Answer 1', true], ['Answer 2', false], ['Answer 3', false]]);
    assert.match(await text(visit, 'outline-key'), /^Solid: what at least half of the 3.answers change; dotted: fewer\.$/);
    await visit.screenshot('demo-answers');

    await page.locator('#variants').selectOption('1');
    assert.ok((await shown(visit, 'strength')) && !(await shown(visit, 'alpha')));
    await page.locator('#method').selectOption('paper');
    assert.ok(!(await shown(visit, 'strength')) && !(await shown(visit, 'locality')) && (await shown(visit, 'alpha')));
    await work(visit, () => page.locator('#explain').click());
    assert.ok((await shown(visit, 'result-noised')) && !(await shown(visit, 'gallery-box')));
    assert.match(await text(visit, 'honesty'), /; (not )?reached; unlike/);
    assert.equal(await text(visit, 'outline-key'), '');
    await visit.screenshot('demo-paper');
    await page.locator('#method').selectOption('local');
  });
});

test('a link brings back sample, settings and mask', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    const third = page.locator('#sample-grid button').nth(12);
    await work(visit, () => third.click());
    await more(page);
    const settings = { strength: '2', variants: '2', locality: '0.1', noise: '0.3', steps: '25', seed: '11' };
    for (const id of ['strength', 'locality', 'noise', 'seed']) await page.locator(`#${id}`).fill(settings[id]);
    for (const id of ['variants', 'steps']) await page.locator(`#${id}`).selectOption(settings[id]);
    await page.locator('#target').selectOption({ label: 'Bag' });
    await page.locator('#keep').check();
    await page.locator('[data-region=left]').click();
    await work(visit, () => page.locator('#explain').click());
    await page.locator('#result-link').click();
    await visit.until(() => /link is/.test(document.getElementById('status').textContent), { what: 'the link' });
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(link, page.url());
    const counterfactual = await pixels(visit, 'result-counterfactual');
    const mask = await page.locator('#mask').getAttribute('aria-label');
    assert.match(mask, /50.%/);
    await clean(visit, 'several answers');

    const other = await visit.context.newPage();
    const again = Object.assign(Object.create(Object.getPrototypeOf(visit)), visit, { page: other });
    await other.goto(link);
    await start(again);
    assert.equal(await other.locator('#sample-grid [aria-pressed=true]').getAttribute('aria-label'), await third.getAttribute('aria-label'));
    for (const [id, value] of Object.entries(settings)) assert.equal(await other.locator(`#${id}`).inputValue(), value, id);
    assert.equal(await other.locator('#target option:checked').innerText(), 'Bag', 'not the runner-up');
    assert.equal(await other.locator('#mask').getAttribute('aria-label'), mask);
    assert.ok(await shown(again, 'noise'), 'what is set is seen');
    await work(again, () => other.locator('#explain').click());
    assert.deepEqual(await pixels(again, 'result-counterfactual'), counterfactual, 'the same question, the same answer');
    assert.equal(other.url(), link);

    // Another link in the same page; what it does not say is as at first, and nonsense is left out.
    await other.evaluate(() => {
      location.hash = '#target=Coat&steps=77&noise=many&seed=-1&mask=28.x&nothing=1&strength=99';
    });
    await idle(again);
    const values = await other.evaluate(() => ['strength', 'variants', 'locality', 'noise', 'steps', 'seed'].map((id) => document.getElementById(id).value));
    assert.deepEqual(values, ['3.4', '1', '0.2', '0.2', '50', '0']);
    assert.equal(await other.locator('#target option:checked').innerText(), 'Coat');
    assert.equal(await other.locator('#keep').isChecked(), false);
    await other.evaluate(() => {
      location.hash = '#sample=none.png';
    });
    await visit.page.waitForTimeout(200);
    assert.match(await text(again, 'alert'), /no sample none\.png/);
    await other.close();
  });
});

test('labels have switches', { timeout: 2 * SLOW }, async () => {
  const buffer = readFileSync(fixture('tiny-colour-labels.safetensors'));
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    assert.ok((await shown(visit, 'target')) && !(await shown(visit, 'labels')));
    await openModel(visit, { name: 'labels.safetensors', mimeType: 'application/octet-stream', buffer });
    assert.ok(!(await shown(visit, 'target')) && (await shown(visit, 'labels')));
    const switches = () =>
      page.locator('#labels [role=switch]').evaluateAll((all) =>
        all.map((one) => [one.dataset.label, one.getAttribute('aria-checked'), one.classList.contains('flipped'), one.innerText.replace(/\s+/g, ' ')]),
      );
    const [first] = await switches();
    assert.equal((await switches()).filter(([, , flipped]) => flipped).length, 1, 'one is proposed');
    await page.locator('#labels [data-label=WBC]').focus();
    if (!(await switches())[1][2]) await page.keyboard.press('Space');
    const flipped = await switches();
    assert.deepEqual(flipped.map(([name, , is]) => [name, is]), [['RBC', false], ['WBC', true], ['Platelets', false]]);
    assert.match(flipped[1][3], flipped[1][1] === 'true' ? /to be added/ : /to be taken away/);
    assert.equal(flipped[0][0], first[0]);
    await more(page);
    await page.locator('#keep').uncheck();
    await page.locator('#variants').selectOption('1');
    await page.locator('#locality').fill('0');
    await page.locator('#strength').fill('3.4');
    await work(visit, () => page.locator('#explain').click());
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'verdict'), /^WBC \S+.% → \S+.%: the decision (changed, WBC is (added|taken away)|did not change)$/);
    assert.match(await text(visit, 'honesty'), /; (no other label moved|moved as well: [\w, ]+)\.$/);
    assert.match(page.url(), flipped[1][1] === 'true' ? /target=%2BWBC/ : /target=-WBC/);
    await visit.screenshot('demo-labels');
    await work(visit, () => page.locator('#explain-all').click());
    assert.deepEqual((await gallery(page)).map(([label]) => label.split(':')[0].slice(2)), ['RBC', 'WBC', 'Platelets']);
    // Nothing flipped is nothing asked.
    await page.locator('#labels [data-label=WBC]').click();
    assert.equal((await switches()).filter(([, , is]) => is).length, 0);
    await work(visit, () => page.locator('#explain').click());
    assert.match(await text(visit, 'alert'), /Flip the label/);
  });
});
