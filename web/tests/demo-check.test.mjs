/**
 * The page that checks the device: a whole check in a worker, stopping, a device that computes wrongly and is lost, and
 * what it says where there is none.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { clean, violations } from './axe.mjs';
import { SLOW, engine, site, unlessWhole } from './browser.mjs';
import { demo } from './paths.mjs';
import { idle, shown, text } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** A check compiles every kernel there is, each of several kinds: minutes on a software device that is busy otherwise. */
const WHOLE = 3 * SLOW;
const KEYS = [
  ...['version', 'adapter', 'driver', 'backend', 'software', 'platform', 'open_seconds', 'test_seconds', 'pipelines', 'limits', 'families'],
  ...['beyond_direct', 'tolerance', 'training_step', 'operations', 'lost'],
];

/** @typedef {import('./browser.mjs').Visit} Visit */

/** Words of the table's cells, row by row. @param {Visit} visit */
const cells = ({ page }) => page.locator('#report-table tr').evaluateAll((rows) => rows.map((row) => [...row.cells].map((one) => one.textContent)));

/** What "Save report" gives. @param {Visit} visit */
async function saved({ page }) {
  const download = await page.download(() => page.locator('#report-save').click());
  assert.equal(download.name, 'duet-check.json');
  return JSON.parse(readFileSync(download.path, 'utf8'));
}

/** Waits until a check is at a part, or beyond it: some are done in no time. @param {Visit} visit @param {number} part */
async function reach(visit, part) {
  const reached = (least) => parseInt(document.getElementById('check-progress-text').textContent, 10) >= least;
  await visit.until(reached, { what: `part ${part}`, argument: part, timeout: WHOLE });
}

/** Starts a check by keyboard and waits until it is at a part. @param {Visit} visit @param {number} part */
async function begin(visit, part) {
  await visit.page.locator('#check').focus();
  await visit.page.keyboard.press('Enter');
  // What a check before it reached is shown until this one begins.
  await visit.until(() => document.documentElement.dataset.busy === 'true', { what: 'a check to begin' });
  await reach(visit, part);
}

/** Nothing is wider than the page. @param {Visit} visit */
async function fits({ page }) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wide <= 0, `${wide} pixels too wide`);
}

/** Keeps pictures in both colour schemes, wide and narrow. @param {Visit} visit @param {string} name */
async function looks(visit, name) {
  const { page } = visit;
  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 320]) {
      await page.setViewportSize({ width, height: 800 });
      await fits(visit);
      // Colours change over a tenth of a second.
      await page.waitForTimeout(200);
      assert.deepEqual(await violations(visit, colorScheme), [], `${name}, ${colorScheme}, ${width} pixels`);
      await visit.screenshot(`check-${name}-${width}-${colorScheme}`);
    }
  }
}

/** The report is copied, and is the one that is saved. @param {Visit} visit */
async function copied(visit) {
  const { page } = visit;
  await page.locator('#report-copy').click();
  await visit.until(() => /copied/.test(document.getElementById('status-text').textContent), { what: 'copied', timeout: 5000 });
  const report = await saved(visit);
  assert.deepEqual(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), report);
  return report;
}

const CONTEXT = { permissions: ['clipboard-read', 'clipboard-write'], colorScheme: /** @type {const} */ ('light') };

test('a check in a worker begins, tells where it is, and stops', { timeout: WHOLE }, async () => {
  await pages.visit('/demo/check', { context: CONTEXT }, async (visit) => {
    const { page } = visit;
    await visit.ready();
    // By itself it does nothing.
    await page.waitForTimeout(500);
    assert.match(await text(visit, 'status'), /Nothing has run/);
    assert.equal(await shown(visit, 'report'), false);
    await clean(visit, 'check');
    await visit.screenshot('check-before-light');

    await begin(visit, 1);
    assert.match(await text(visit, 'check-progress-text'), /^1 of \d+: a training step$/);
    // The keyboard goes on to what can be pressed; what is known of the device is there already.
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'check-cancel');
    assert.match(await text(visit, 'report-facts'), /Adapter\s+\S/);
    assert.equal(await page.locator('#report-table tbody tr').count(), 0);
    // Stopped: what was found stays, and says where it ends.
    await reach(visit, 2);
    await page.keyboard.press('Enter');
    await idle(visit);
    assert.equal(await text(visit, 'status'), 'Cancelled.');
    assert.ok(await page.locator('#check').isEnabled());
    const stopped = await copied(visit);
    assert.equal(await text(visit, 'verdict'), `Nothing is wrong so far. Stopped at “${stopped.stopped_at}”.`);
    assert.equal(stopped.training_step, null);
    assert.match(stopped.platform, engine.platform);
    assert.deepEqual(Object.keys(stopped).sort(), [...KEYS, 'stopped_at'].sort());
    assert.ok(stopped.operations.length < 12 && stopped.operations.every(({ name }) => name !== stopped.stopped_at), JSON.stringify(stopped));
  });
});

test('a whole check in a worker', { timeout: WHOLE, skip: unlessWhole('every kernel is compiled, which takes minutes') }, async () => {
  await pages.visit('/demo/check', { context: CONTEXT }, async (visit) => {
    const { page } = visit;
    await visit.ready();
    const started = Date.now();
    await begin(visit, 1);
    // The first beyond a quarter.
    const parts = Number((await text(visit, 'check-progress-text')).match(/of (\d+)/)?.[1]);
    await reach(visit, Math.ceil(parts / 4) + 1);
    assert.match(await text(visit, 'verdict'), /^Nothing is wrong so far\.$/);
    assert.match(await text(visit, 'status'), /^Checking: 25.%\. Nothing is wrong so far\.$/);
    await visit.screenshot('check-running-light');
    await visit.until(() => document.documentElement.dataset.busy === 'false', { what: 'the end', timeout: WHOLE });
    console.log(`a check takes ${((Date.now() - started) / 1000).toFixed(0)} s`);

    assert.equal(await text(visit, 'alert'), '');
    assert.equal(await text(visit, 'verdict'), 'This device computes correctly.');
    assert.equal(await text(visit, 'status'), 'This device computes correctly.');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'check', 'the keyboard is back where it was');
    const [columns, step, ...rows] = await cells(visit);
    assert.deepEqual(columns, ['Operation', 'direct', 'tiled']);
    assert.deepEqual(step, ['a training step', 'right']);
    assert.ok(rows.length >= 33, `${rows.length} operations`);
    for (const [name, direct, tiled] of rows) {
      assert.match(direct, /^(0|\de-\d+)$/, name);
      assert.match(tiled, /^(0|\de-\d+|–)$/, name);
    }
    assert.ok(rows.some((row) => row[2] !== '–'), 'tiles have kernels of their own');

    const report = await copied(visit);
    assert.deepEqual(Object.keys(report).sort(), [...KEYS].sort());
    assert.ok(report.training_step === null && report.lost === null && report.adapter !== '', JSON.stringify(report));
    assert.match(report.platform, engine.platform);
    assert.deepEqual(report.families, ['direct', 'tiled']);
    assert.ok(report.pipelines > 50 && report.limits.workgroup_bytes >= 16_384, JSON.stringify(report.limits));
    assert.ok(report.operations.every(({ off, wrong }) => wrong === null && off <= report.tolerance));

    await looks(visit, 'right');
  });
});

test('wrong numbers and a device that is lost are said so', { timeout: WHOLE }, async () => {
  await pages.visit('/demo/check.html?thread=main', { expected: engine.lost }, async (visit) => {
    const { page } = visit;
    await visit.ready();
    await page.evaluate(() => {
      const { createShaderModule } = GPUDevice.prototype;
      // A bias that is a hundredth too large, in one family.
      GPUDevice.prototype.createShaderModule = function wrong(descriptor) {
        const tiled = descriptor.label === 'conv3x3_tiled';
        const code = tiled ? descriptor.code.replace('= bias[', '= 1.01 * bias[') : descriptor.code;
        globalThis.changed ||= code !== descriptor.code;
        return createShaderModule.call(this, { ...descriptor, code });
      };
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function kept(...words) {
        globalThis.device = await requestDevice.apply(this, words);
        return globalThis.device;
      };
    });
    await begin(visit, 3);
    assert.ok(await page.evaluate(() => globalThis.changed), 'the shader was changed');
    assert.match(await text(visit, 'verdict'), /^This device computes wrongly: \d of \d+.operations\.$/);
    await page.evaluate(() => globalThis.device.destroy());
    await idle(visit);
    const verdict = await text(visit, 'verdict');
    assert.match(verdict, /^This device computes wrongly: \d of \d+.operations\. The device was lost at .+\.$/);
    assert.equal(await text(visit, 'status'), verdict);
    assert.equal(await text(visit, 'alert'), '');
    const [, step, first, why, ...rest] = await cells(visit);
    assert.equal(rest.at(-1).at(-1), 'lost', 'what the device was lost at has a row');
    assert.deepEqual(step, ['a training step', 'right']);
    assert.match(first.join(), /^convolution 3×3, few channels,(0|\de-\d+),wrong: \de-\d+$/);
    assert.match(why[0], /^tiled: the result is off by .* of its length$/);
    const report = await saved(visit);
    assert.deepEqual(Object.keys(report).sort(), [...KEYS].sort());
    assert.match(report.lost, /^[^:]+: .{4}/);
    assert.match(report.operations[1].wrong, /^the result is off by/);
    await looks(visit, 'wrong');
  });
});

test('where there is no device the page says what to do', { timeout: SLOW }, async () => {
  for (const thread of ['', '?thread=main']) {
    await pages.visit(`/demo/check${thread}`, { webgpu: false }, async (visit) => {
      const { page } = visit;
      await visit.ready();
      const alert = page.locator('#alert');
      assert.equal(await alert.getAttribute('role'), 'alert');
      const said = /offers no WebGPU here.*Chrome.*Safari.*Firefox.*https.*duet check --full/s;
      assert.match(await alert.innerText(), said);
      await page.setViewportSize({ width: 320, height: 700 });
      await fits(visit);
      await visit.screenshot('check-no-webgpu');
      // Asking all the same gets the same answer, not silence.
      await page.locator('#check').click();
      await idle(visit);
      assert.match(await alert.innerText(), said);
      assert.equal(await shown(visit, 'report'), false);
    });
  }
  await pages.visit('/demo/check?thread=main', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    await page.evaluate(() => (GPU.prototype.requestAdapter = async () => null));
    await page.locator('#check').click();
    await idle(visit);
    assert.match(await text(visit, 'alert'), /offers no GPU.*driver.*duet check --full/s);
  });
});

test('every control has a name, and the pages lead to each other', { timeout: SLOW }, async () => {
  await pages.visit('/demo/', {}, async (visit) => {
    const { page } = visit;
    await page.locator('footer a[href="./check.html"]').click();
    await visit.until(() => document.getElementById('check') !== null, { what: 'the page that checks' });
    await visit.ready();
    assert.match(page.url(), /\/demo\/check\.html$/);
    assert.equal(await page.locator('#check').isVisible(), true);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, a, progress')]
        .filter((one) => !(one.getAttribute('aria-label') ?? one.textContent.trim()))
        .map((one) => one.outerHTML.slice(0, 80)),
    );
    assert.deepEqual(nameless, []);
    await page.locator('footer a').click();
    await visit.until(() => document.getElementById('panel-explain') !== null, { what: 'the page with the models' });
  });
});
