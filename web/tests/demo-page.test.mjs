/**
 * The demo page itself: its keys, its looks in every size and colour scheme, its names for screen readers, and what it
 * says where it cannot work.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, site } from './browser.mjs';
import { demo } from './paths.mjs';
import { UNASKED } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** Nothing here changes what the page knows. */
const onPage = pages.kept(UNASKED);
const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 900 } };
const TABS = ['explain', 'generate', 'train', 'measure'];

/** @param {import('./browser.mjs').Visit} visit */
const focused = ({ page }) => page.evaluate(() => document.activeElement?.id ?? '');

test('tabs by keyboard alone', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await visit.ready();
    // From the top of the page to the tabs.
    for (let i = 0; i < 12 && (await focused(visit)) !== 'tab-explain'; i += 1) await page.keyboard.press('Tab');
    assert.equal(await focused(visit), 'tab-explain', 'the Tab key reaches the tabs');
    const steps = [
      ['ArrowRight', 'generate'],
      ['ArrowRight', 'train'],
      ['ArrowRight', 'measure'],
      ['ArrowRight', 'explain'],
      ['ArrowLeft', 'measure'],
      ['Home', 'explain'],
      ['End', 'measure'],
    ];
    for (const [key, name] of steps) {
      await page.keyboard.press(key);
      assert.equal(await focused(visit), `tab-${name}`, key);
      const state = await page.evaluate(
        (tabs) =>
          tabs.map((tab) => {
            const button = document.getElementById(`tab-${tab}`);
            const panel = document.getElementById(button.getAttribute('aria-controls'));
            return [button.getAttribute('aria-selected'), panel.checkVisibility()];
          }),
        TABS,
      );
      assert.deepEqual(state, TABS.map((tab) => [String(tab === name), tab === name]), key);
    }
    await page.keyboard.press('Home');
    // On into the panel: something there takes the focus.
    await page.keyboard.press('Tab');
    assert.ok(!(await focused(visit)).startsWith('tab-'), 'one stop for all tabs');
    // A sample by keyboard: one stop for all, arrows to the neighbours, a column per class.
    const samples = page.locator('#sample-grid button');
    const labels = await samples.evaluateAll((all) => all.map((button) => button.dataset.label));
    assert.equal(labels.length, 64, 'the shipped images');
    assert.equal(await page.locator('#sample-grid [tabindex="0"]').count(), 1);
    await samples.first().focus();
    const at = () => page.evaluate(() => [...document.querySelectorAll('#sample-grid button')].indexOf(document.activeElement));
    for (const [key, place] of [['ArrowRight', 1], ['ArrowDown', 11], ['ArrowLeft', 10], ['ArrowUp', 0], ['ArrowUp', 0], ['End', 63], ['ArrowRight', 63], ['Home', 0], ['ArrowRight', 1]]) {
      await page.keyboard.press(key);
      assert.equal(await at(), place, key);
    }
    assert.equal(labels[11], labels[1], 'below is the same class');
    await page.keyboard.press('Enter');
    assert.equal(await samples.nth(1).getAttribute('aria-pressed'), 'true');
    await page.keyboard.press('Tab');
    assert.equal(await at(), -1, 'Tab leaves the samples');
    await page.keyboard.press('Shift+Tab');
    assert.equal(await at(), 1, 'and comes back to where it was');
  });
});

test('every control has a name, every id is there once', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    await visit.ready();
    const { nameless, twice, missing } = await visit.page.evaluate((contract) => {
      const named = (element) =>
        element.getAttribute('aria-label') ??
        element.getAttribute('aria-labelledby') ??
        (element.labels?.length > 0 ? 'label' : element.textContent.trim());
      // A picture inside of a button is named by the button.
      const controls = [...document.querySelectorAll('button, input, select, progress, canvas:not(button *, [aria-hidden=true])')];
      const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
      return {
        nameless: controls.filter((element) => !named(element)).map((element) => element.outerHTML.slice(0, 80)),
        twice: ids.filter((id, i) => ids.indexOf(id) !== i),
        missing: contract.filter((id) => !ids.includes(id)),
      };
    }, 'status alert sample-grid upload draw probabilities target strength variants locality method noise alpha steps seed explain explain-all cancel explain-progress result result-original result-noised result-counterfactual result-difference result-link result-save compare outline gallery honesty verdict curve generate-class generate-count generate generate-cancel generate-grid train-add-sample train-list train-steps train train-cancel train-loss train-export measure-folder measure-files measure-limit measure-timesteps measure-seed measure measure-cancel measure-result measure-confusion measure-save open-model'.split(' '));
    assert.deepEqual({ nameless, twice, missing }, { nameless: [], twice: [], missing: [] });
  });
});

test('pictures of the page in both sizes and colour schemes', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await visit.until(() => document.querySelectorAll('#probabilities [data-label]').length > 0);
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
        await page.emulateMedia({ colorScheme });
        for (const tab of TABS) {
          await page.locator(`#tab-${tab}`).click();
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          assert.ok(wide <= 0, `${tab} at ${viewport.width} pixels is ${wide} too wide`);
          await visit.screenshot(`demo-${tab}-${size}-${colorScheme}`);
        }
        // Light text on dark, dark text on light: what the scheme promises.
        const light = await page.evaluate(() => {
          const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
          const drawn = (colour) => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            return canvas.getImageData(0, 0, 1, 1).data;
          };
          const [body, root] = [document.body, document.documentElement].map((element) => getComputedStyle(element));
          // The page's background is the body's where that has one.
          const back = [body, root].map((style) => drawn(style.backgroundColor)).find((colour) => colour[3] > 0);
          return drawn(body.color)[1] > back[1];
        });
        assert.equal(light, colorScheme === 'dark', 'the colour scheme');
      }
    }
  });
});

test('without WebGPU the page says what is needed', { timeout: SLOW }, async () => {
  await pages.visit('/demo/', { webgpu: false, expected: [/NoWebGpu|no WebGPU/i] }, async (visit) => {
    const { page } = visit;
    await visit.until(() => document.getElementById('alert').textContent.trim() !== '', { what: 'an alert', timeout: 20_000 });
    const alert = page.locator('#alert');
    assert.equal(await alert.getAttribute('role'), 'alert');
    assert.ok(await alert.isVisible());
    assert.match(await alert.innerText(), /WebGPU/);
    assert.match(await alert.innerText(), /Chrome|Edge|Safari|Firefox/, 'and where to find it');
    await visit.screenshot('demo-no-webgpu');
    // Asking all the same gets the same answer, not silence.
    await page.locator('#sample-grid button').first().click();
    await page.locator('#explain').click();
    await page.waitForTimeout(300);
    assert.match(await alert.innerText(), /WebGPU/);
  });
});

test('without its model the page says so', { timeout: SLOW }, async () => {
  await pages.visit('/demo/?model=none.safetensors', { expected: [/404/, /none\.safetensors/] }, async (visit) => {
    await visit.until(() => document.getElementById('alert').textContent.trim() !== '', { what: 'an alert', timeout: 20_000 });
    assert.match(await visit.page.locator('#alert').innerText(), /none\.safetensors/);
    assert.match(await visit.page.locator('#status').innerText(), /no model/i);
  });
});
