/**
 * The page as an app: it can be installed, and works without a network with the models that were used. The network is taken
 * away for good: the server ends.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { serve } from '../scripts/serve.mjs';
import { SLOW, site } from './browser.mjs';
import { demo } from './paths.mjs';
import { bars, idle, more, shown, text, work } from './visitor.mjs';

// A copy, so that the page can change.
const folder = mkdtempSync(path.join(tmpdir(), 'duet-offline-'));
after(() => rmSync(folder, { recursive: true }));
const copy = path.join(folder, 'demo');
const pages = site(() => ({ '/demo/': demo() }));

/** The size that a PNG says it has. @param {Buffer} bytes */
const pngSize = (bytes) => `${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`;

test('the manifest says what an app has to say, and its icons are there', () => {
  const manifest = JSON.parse(readFileSync(path.join(demo(), 'manifest.webmanifest'), 'utf8'));
  for (const key of ['name', 'short_name', 'start_url', 'scope', 'display', 'theme_color', 'background_color']) {
    assert.ok(manifest[key], key);
  }
  const sizes = manifest.icons.map(({ src, sizes: said, type }) => {
    const bytes = readFileSync(path.join(demo(), src));
    if (type === 'image/png') assert.equal(pngSize(bytes), said, src);
    else assert.match(bytes.toString(), /^<svg /);
    return said;
  });
  assert.ok(sizes.includes('192x192') && sizes.includes('512x512'));
  assert.ok(manifest.icons.some(({ purpose }) => purpose === 'maskable'));
  for (const page of ['index.html', 'check.html']) {
    assert.match(readFileSync(path.join(demo(), page), 'utf8'), /<link rel="manifest" href="\.\/manifest\.webmanifest">/, page);
  }
});

/** Waits until the model in use is kept. @param {import('./browser.mjs').Visit} visit @param {string} name */
const kept = (visit, name) =>
  visit.until((what) => document.getElementById('offline').textContent.includes(what), { what: `${name} to be kept`, argument: name });

test('without a network there are the page, its models and the device check', { timeout: 3 * SLOW }, async () => {
  cpSync(demo(), copy, { recursive: true });
  let server = await serve({ '/demo/': copy });
  const { port } = new URL(server.url);
  const expected = [/ERR_|NetworkError|Failed to fetch|could not be fetched|not kept|404|NS_ERROR/i];
  // The page of the other server is left at once: what is wanted is a context.
  await pages.visit('/demo/', { serviceWorker: true, expected }, async (visit) => {
    const { page } = visit;
    const address = `${server.url}/demo/`;
    await page.goto(address);
    await visit.ready();
    await kept(visit, 'Fashion-MNIST');
    assert.doesNotMatch(await text(visit, 'offline'), /Blood cells/, 'only what was used');
    await idle(visit);
    const online = await bars(visit);
    await server.close();

    await page.goto(address);
    await visit.ready();
    await idle(visit);
    assert.equal(await text(visit, 'alert'), '');
    assert.deepEqual(await bars(visit), online, 'the same picture, the same answer');
    assert.equal(await page.locator('#sample-grid button').count(), 64);
    await more(page);
    await page.locator('#steps').selectOption('25');
    await page.locator('#noise').fill('0.05');
    await work(visit, () => page.locator('#explain').click());
    assert.ok(await shown(visit, 'result'));
    await page.locator('footer a[href="./check.html"]').click();
    await visit.until(() => document.getElementById('check') !== null, { what: 'the device check' });
    // As a server knows it, too.
    await page.goto(`${address}check`);
    assert.equal(await page.locator('#check').innerText(), 'Check this device');
    await page.goto(address);
    await visit.ready();
    await idle(visit);
    await work(visit, () => page.locator('#model-menu button[title="Blood cells"]').click());
    assert.match(await text(visit, 'alert'), /could not be fetched/, 'a model that was not used before');
    assert.match(await text(visit, 'status'), /Still using Fashion-MNIST/);

    // With the network back, what is new is used: a model's list, and the page itself.
    const list = path.join(copy, 'models.json');
    const models = JSON.parse(readFileSync(list, 'utf8'));
    models[0].about = 'newer than what was kept';
    writeFileSync(list, JSON.stringify(models));
    const html = path.join(copy, 'index.html');
    writeFileSync(html, readFileSync(html, 'utf8').replace('<title>Duet</title>', '<title>Duet, newer</title>'));
    server = await serve({ '/demo/': copy }, { port: Number(port) });
    await page.goto(address);
    await visit.ready();
    await idle(visit);
    assert.equal(await page.title(), 'Duet, newer');
    assert.match(await page.locator('#model-menu').innerText(), /newer than what was kept/);
    await work(visit, () => page.locator('#model-menu button[title="Blood cells"]').click());
    await kept(visit, 'Blood cells');
    await server.close();
    await page.goto(`${address}?model=blood-cells`);
    await visit.ready();
    await idle(visit);
    assert.equal(await text(visit, 'alert'), '');
    assert.equal((await bars(visit)).length, 3);
    assert.equal(await page.title(), 'Duet', 'as it was kept, with what it consists of');
    await visit.screenshot('demo-offline');
  });
});
