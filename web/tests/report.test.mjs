/**
 * The report of `duet explain`: a file without a server, whose own script filters, orders and pages many cards.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { SLOW, Visit, engine, launch } from './browser.mjs';
import { fixture } from './paths.mjs';

/** Cards on a page. */
const PAGE = 48;

test('a report of many images is filtered, ordered and paged by keyboard', { timeout: SLOW }, async () => {
  const browser = await launch();
  try {
    const context = await browser.newContext({ viewport: { width: 390, height: 800 } });
    const page = await context.newPage();
    /** @type {string[]} */
    const complaints = [];
    page.on('console', ({ text }) => complaints.push(text));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) complaints.push(request.url());
    });
    const address = pathToFileURL(fixture('report.html')).href;
    const visit = new Visit(page, context, address, []);
    await page.goto(address);
    assert.deepEqual(complaints.splice(0), engine.lacks.files ? [] : [address], 'nothing but the file itself is fetched, and its script may run');
    const count = () => page.locator('output').innerText();
    const cards = page.locator('.card');
    assert.equal(await count(), '120 of 120 images');
    assert.equal(await cards.count(), PAGE);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'fits a phone');

    const next = page.getByRole('button', { name: 'Next →' });
    await next.focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('.pager span').innerText(), 'Page 2 of 3');
    await page.keyboard.press('Enter');
    assert.equal(await cards.count(), 120 - 2 * PAGE);
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Next →', 'the keyboard keeps its place');
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('.pager span').innerText(), 'Page 3 of 3', 'there is no fourth');
    // A card that was text has all that the others have.
    assert.equal(await cards.last().locator('img').count(), 3);
    assert.equal(await cards.last().getAttribute('id'), 'image-120');

    await page.getByLabel('Judge').selectOption('disagrees');
    assert.equal(await count(), '40 of 120 images');
    assert.equal(await page.locator('.pager').isVisible(), false, 'one page');
    assert.match(await cards.first().innerText(), /disagrees/);
    await page.getByLabel('Order').selectOption('most');
    const changes = await cards.evaluateAll((all) =>
      all.map((card) => Number(/changes (\d+)/i.exec(/** @type {HTMLElement} */ (card).innerText)?.[1])),
    );
    assert.deepEqual(changes, [...changes].sort((a, b) => b - a), 'the largest change first');
    await page.getByLabel('Target reached').selectOption('unchanged');
    assert.equal(await count(), '20 of 120 images');
    await page.getByLabel('originals without lines').check();
    assert.equal(await cards.first().locator('.outline').isVisible(), false);
    await page.getByRole('button', { name: 'Show all' }).click();
    await visit.until(() => document.querySelector('output')?.textContent === '120 of 120 images', { what: 'all images' });
    assert.equal(await cards.first().locator('.outline').isVisible(), true);
    assert.deepEqual(complaints, []);
  } finally {
    await browser.close();
  }
});
