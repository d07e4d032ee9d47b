/**
 * What axe-core finds wrong with a page as it stands.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @typedef {import('./browser.mjs').Visit} Visit */

/** Rules of colours. All others ask for a page's structure, which no colour scheme changes. */
const COLOURS = ['color-contrast', 'link-in-text-block'];

/** What axe finds wrong, a line each: all in light, and what colours can be in dark. @param {Visit} visit @param {'light' | 'dark'} scheme */
export async function violations({ page }, scheme) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(`() => {\n${AXE}\n}`);
  return page.evaluate(async (rules) => {
    // Colours on their way from one scheme to the other are none that stay; what never ends is measured as it is.
    const ends = document.getAnimations().map(({ finished }) => finished.catch(() => undefined));
    await Promise.race([Promise.all(ends), new Promise((done) => setTimeout(done, 2000))]);
    const found = await globalThis.axe.run(document, { resultTypes: ['violations'], ...(rules && { runOnly: rules }) });
    return found.violations.flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id}: ${help} (${target.join(' ')})`));
  }, scheme === 'dark' ? COLOURS : undefined);
}

/** Nothing is found, in either scheme, wide and narrow. @param {Visit} visit @param {string} what */
export async function clean(visit, what) {
  const { page } = visit;
  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const width of [1280, 320]) {
      await page.setViewportSize({ width, height: 900 });
      // Colours change over a tenth of a second where they may.
      await page.waitForTimeout(150);
      assert.deepEqual(await violations(visit, colorScheme), [], `${what}, ${colorScheme}, ${width} pixels`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${what}: ${wide} pixels wider than ${width}`);
    }
  }
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0, `${what}: nothing moves`);
}
