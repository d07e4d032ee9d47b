/**
 * What a visitor of the demo page does and sees.
 */

import assert from 'node:assert/strict';

/** @typedef {import('./browser.mjs').Visit} Visit */

/** The page as it is where nobody explains by the local method: what that shares between questions is not made ahead, nor its pipelines. */
export const UNASKED = '/demo/#method=paper';

/** Whether an element is there to be seen. @param {Visit} visit @param {string} id */
export const shown = ({ page }, id) => page.locator(`#${id}`).isVisible();
/** @param {Visit} visit @param {string} id */
export const text = async ({ page }, id) => (await page.locator(`#${id}`).innerText()).trim();

/** Waits until nothing runs. @param {Visit} visit */
export async function idle(visit) {
  // Work that a click starts soon, such as classifying, has begun by then.
  await visit.page.waitForTimeout(150);
  await visit.until(() => document.documentElement.dataset.busy === 'false', { what: 'the page to be idle' });
}

/** Waits for the first work of a click, then for its end. @param {Visit} visit @param {() => Promise<void>} start */
export async function work(visit, start) {
  await start();
  await idle(visit);
}

/**
 * Has the page press a button as soon as an element's words match, once: what they tell may be over before a driver has read them.
 * @param {Visit} visit @param {string} words the element's id @param {RegExp} pattern @param {string} button its id
 */
export function pressOnce({ page }, words, pattern, button) {
  return page.evaluate(
    ({ words: id, source, button: pressed }) => {
      const element = document.getElementById(id);
      const watch = new MutationObserver(() => {
        if (!new RegExp(source).test(element.textContent)) return;
        watch.disconnect();
        document.getElementById(pressed).click();
      });
      watch.observe(element, { childList: true, characterData: true, subtree: true });
    },
    { words, source: pattern.source, button },
  );
}

/** Pixels of a canvas as a list, or nothing where it is empty. @param {Visit} visit @param {string} id */
export function pixels({ page }, id) {
  return page.evaluate((name) => {
    const canvas = document.getElementById(name);
    if (canvas.width === 0) return [];
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
  }, id);
}

/** The bars: name and per cent of each class. @param {Visit} visit */
export async function bars({ page }) {
  return page.evaluate(() => [...document.querySelectorAll('#probabilities [data-label]')].map((item) => item.innerText));
}

/** Opens the page and waits for the model. @param {Visit} visit */
export async function start(visit) {
  await visit.ready();
  await idle(visit);
  assert.equal(await text(visit, 'alert'), '');
}

/** Opens what is under "More". @param {import('./browser.mjs').Page} page */
export async function more(page) {
  if (!(await page.locator('#more').evaluate((box) => box.open))) await page.locator('#more summary').click();
}

/** The bytes of a fixture as a model to open. @param {Visit} visit @param {{ name: string, mimeType: string, buffer: Buffer }} file */
export async function openModel(visit, file) {
  await visit.page.locator('#open-model').setInputFiles(file);
  await visit.page.waitForTimeout(200);
  await visit.ready();
  await idle(visit);
}

/**
 * Drops files on an element, as a page hears of it.
 * @param {Visit} visit @param {string} selector @param {[string, Buffer][]} files
 */
export function dropFiles({ page }, selector, files) {
  return page.evaluate(
    ({ selector: zone, files: all }) => {
      const dataTransfer = new DataTransfer();
      for (const [name, bytes] of all) dataTransfer.items.add(new File([bytes], name));
      document.querySelector(zone).dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
    },
    { selector, files: files.map(([name, bytes]) => [name, Uint8Array.from(bytes)]) },
  );
}
