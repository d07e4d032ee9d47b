/**
 * What axe-core finds of the page: each tab, with what it shows once it has been used. Where a test set has been measured and a
 * device checked, demo-measure and demo-check look.
 */

import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { demo } from './paths.mjs';
import { more, start, work } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));

test('the page with its answers', { timeout: 3 * SLOW }, async () => {
  await pages.visit('/demo/', {}, async (visit) => {
    const { page } = visit;
    await start(visit);
    await more(page);
    await page.locator('#steps').selectOption('25');
    await page.locator('#noise').fill('0.05');
    await page.locator('#variants').selectOption('2');
    await page.locator('#keep').check();
    await page.locator('[data-region=left]').click();
    await work(visit, () => page.locator('#explain').click());
    await page.locator('#about summary').click();
    await clean(visit, 'explain');

    await page.locator('#tab-generate').click();
    await page.locator('#generate-class').selectOption({ index: 1 });
    await page.locator('#generate-count').fill('1');
    await page.locator('#generate-steps').selectOption('25');
    await work(visit, () => page.locator('#generate').click());
    await clean(visit, 'generate');

    await page.locator('#tab-train').click();
    for (let i = 0; i < 2; i += 1) await page.locator('#train-add-sample').click();
    await page.locator('#train-steps').fill('1');
    await page.locator('#train-batch').fill('2');
    await work(visit, () => page.locator('#train').click());
    await clean(visit, 'train');
  });
});

test('the page with a measurement, and with a model of several labels', { timeout: 3 * SLOW }, async () => {
  await pages.visit('/demo/?model=blood-cells', {}, async (visit) => {
    await start(visit);
    await clean(visit, 'labels');
    await visit.page.locator('#tab-measure').click();
    await clean(visit, 'measure, refused');
  });
});

test('the device check', { timeout: SLOW }, async () => {
  await pages.visit('/demo/check.html', {}, (visit) => clean(visit, 'check'));
});
