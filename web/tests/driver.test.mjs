/**
 * The driver of the browsers, on a page that needs neither the library nor WebGPU: every other test relies on what is
 * promised here, in each engine.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { SLOW, site } from './browser.mjs';
import { dropFiles } from './visitor.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'duet-driver-'));
after(() => rmSync(folder, { recursive: true }));
const FILES = {
  'index.html': `<!doctype html><html lang="en"><title>first</title><link rel="icon" href="data:,">
    <link rel="stylesheet" href="look.css"><script type="module" src="page.js"></script>
    <button id="plain">plain</button> <button id="off" disabled>off</button> <button id="gone" hidden>gone</button>
    <button id="under">under</button><div id="cover"></div>
    <ul><li>one</li><li>two <b>bold</b></li><li>three</li></ul>
    <label>Number <input id="number" type="number" value="7"></label>
    <label>Slider <input id="slider" type="range" min="0" max="2" step="0.1"></label>
    <label><input id="tick" type="checkbox"> Tick</label>
    <label>Choice <select id="choice"><option value="a">first</option><option value="b">second</option></select></label>
    <input id="files" type="file" multiple> <a id="save" href="saved.bin" download>save</a>
    <details><summary>more</summary><p id="inside">inside</p></details>
    <div id="far"></div><button id="below">below</button> <a id="away" href="other.html">away</a></html>`,
  'other.html': '<!doctype html><html lang="en"><title>second</title><link rel="icon" href="data:,"><p id="there">there</p></html>',
  'look.css': `#far { height: 3000px } #cover { position: absolute; inset: 0 auto auto 0; width: 1000px; height: 100px }
    #under { position: absolute; top: 10px; left: 10px } body { padding-top: 120px; color: #111 }
    @media (prefers-color-scheme: dark) { body { color: #eee } }`,
  'page.js': `globalThis.heard = [];
    for (const type of ['click', 'input', 'change', 'drop'])
      addEventListener(type, (event) => heard.push([type, event.target.id]));
    globalThis.worker = new Worker('worker.js');
    try {
      if (location.search === '?eval') globalThis.evaluated = eval('1');
    } catch (error) {
      globalThis.evaluated = error.name;
    }
    document.documentElement.dataset.ready = 'true';`,
  'worker.js': `addEventListener('message', async ({ data }) => {
      if (data === 'complain') console.error('said so');
      if (data === 'throw') throw new Error('said so');
      const answer = data === undefined ? undefined : await fetch(data).then((one) => one.text(), () => 'none');
      postMessage([String(globalThis.stubbed), answer]);
    });`,
  'saved.bin': 'saved bytes',
};
for (const [name, text] of Object.entries(FILES)) writeFileSync(path.join(folder, name), text);
const pages = site(() => ({ '/': folder }));

/** What the page heard since the last time. @param {import('./browser.mjs').Visit} visit */
const heard = ({ page }) => page.evaluate(() => globalThis.heard.splice(0));
/** What its worker answers. @param {import('./browser.mjs').Visit} visit @param {string} [address] that it fetches */
const worker = ({ page }, address) =>
  page.evaluate(
    (data) =>
      new Promise((done) => {
        globalThis.worker.onmessage = (event) => done(event.data);
        globalThis.worker.postMessage(data);
      }),
    address,
  );

test('values and errors cross whole, and a strict policy is kept', { timeout: SLOW }, async () => {
  await pages.visit('/?eval', { expected: [/Content.Security.Policy/i] }, async (visit) => {
    const { page } = visit;
    await visit.ready();
    const value = {
      none: undefined,
      numbers: [NaN, -0, Infinity, -Infinity, 0.1],
      floats: Float32Array.of(1.1, NaN, -0),
      bytes: new Uint8ClampedArray(20_000).fill(200),
      nested: [{ text: 'ü “…”', nothing: null }],
    };
    const back = await page.evaluate(async (all) => ({ ...all, kind: all.floats.constructor.name, keys: 'none' in all }), value);
    assert.deepEqual(back, { ...value, kind: 'Float32Array', keys: true });
    assert.equal(await page.evaluate(() => undefined), undefined);
    await assert.rejects(page.evaluate(() => { throw new RangeError('mine'); }), { name: 'RangeError', message: 'mine' });
    await assert.rejects(page.evaluate(() => Promise.reject({ code: 7 })), { message: '{"code":7}' });
    assert.equal(await page.evaluate(() => globalThis.evaluated), 'EvalError', 'the page itself may compile nothing');
  });
});

test('elements are found, waited for and meant one by one', { timeout: SLOW }, async () => {
  await pages.visit('/', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    const items = page.locator('li');
    assert.equal(await items.count(), 3);
    assert.deepEqual(await items.allInnerTexts(), ['one', 'two bold', 'three']);
    assert.deepEqual([await items.first().innerText(), await items.last().innerText()], ['one', 'three']);
    assert.equal(await items.filter({ hasText: 'bold' }).locator('b').innerText(), 'bold');
    assert.deepEqual(await Promise.all((await items.all()).map((one) => one.innerText())), ['one', 'two bold', 'three']);
    assert.equal(await page.getByRole('button', { name: 'plain' }).getAttribute('id'), 'plain');
    assert.equal(await page.getByLabel('Choice').inputValue(), 'a');
    assert.deepEqual(await Promise.all(['plain', 'gone', 'inside', 'nowhere'].map((id) => page.locator(`#${id}`).isVisible())), [true, false, false, false]);
    await page.locator('summary').click();
    assert.ok(await page.locator('#inside').isVisible());
    await page.evaluate(() => void setTimeout(() => document.body.append(Object.assign(document.createElement('i'), { textContent: 'late' })), 300));
    assert.equal(await page.locator('i').innerText(), 'late');
    page.patience = 300;
    await assert.rejects(page.locator('#nowhere').innerText(), /waited 0\.3 s for #nowhere: there is none/);
    await assert.rejects(items.innerText(), /li are 3 elements; one is meant/);
  });
});

test('a click goes to what a person can press', { timeout: SLOW }, async () => {
  await pages.visit('/', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    await page.locator('#plain').click();
    await page.locator('#below').click();
    assert.deepEqual(await heard(visit), [['click', 'plain'], ['click', 'below']]);
    page.patience = 300;
    for (const [id, why] of [['off', /it is disabled/], ['gone', /not visible/], ['under', /cover.* is in front of it/]]) {
      await assert.rejects(page.locator(`#${id}`).click(), why);
    }
    assert.deepEqual(await heard(visit), []);
    page.patience = 10_000;
    await page.evaluate(() => void setTimeout(() => document.getElementById('cover').remove(), 300));
    await page.locator('#under').click();
    assert.deepEqual(await heard(visit), [['click', 'under']]);
    await page.locator('#away').click();
    await visit.until(() => document.title === 'second', { what: 'the other page' });
    assert.equal(await page.locator('#there').innerText(), 'there');
    await assert.rejects(visit.until(() => false, { timeout: 100, what: 'nothing' }), /waited 0\.1 s for: nothing/);
  });
});

test('fields, lists, ticks, keys and files', { timeout: SLOW }, async () => {
  await pages.visit('/', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    await page.locator('#number').fill('0.25');
    await page.locator('#slider').fill('0.4');
    await page.locator('#choice').selectOption('b');
    await page.locator('#choice').selectOption({ label: 'first' });
    await page.locator('#choice').selectOption({ index: 1 });
    await page.locator('#tick').check();
    const values = () => page.evaluate(() => ['number', 'slider', 'choice', 'tick'].map((id) => document.getElementById(id)).map((one) => (one.id === 'tick' ? one.checked : one.value)));
    assert.deepEqual(await values(), ['0.25', '0.4', 'b', true]);
    const types = new Set((await heard(visit)).map((one) => one.join()));
    for (const one of ['input,number', 'input,slider', 'change,slider', 'input,choice', 'change,choice', 'change,tick']) assert.ok(types.has(one), one);
    await page.locator('#tick').uncheck();
    await page.locator('#number').fill('');
    assert.deepEqual(await values(), ['', '0.4', 'b', false]);
    page.patience = 300;
    await assert.rejects(page.locator('#choice').selectOption('none'), /it has no option/);
    page.patience = 10_000;
    await page.locator('#plain').focus();
    await page.keyboard.press('Enter');
    assert.deepEqual((await heard(visit)).at(-1), ['click', 'plain']);
    await page.locator('#number').focus();
    await page.keyboard.press('Shift+Tab');
    assert.equal(await page.evaluate(() => document.activeElement.tagName), 'BUTTON');
    await page.locator('#files').setInputFiles([{ name: 'a.txt', buffer: Buffer.from('a') }, { name: 'b.png', buffer: Buffer.from('bb') }]);
    const files = await page.evaluate(() => Promise.all([...document.getElementById('files').files].map(async (one) => [one.name, one.type, await one.text()])));
    assert.deepEqual(files, [['a.txt', 'text/plain', 'a'], ['b.png', 'image/png', 'bb']]);
    await heard(visit);
    await dropFiles(visit, '#far', [['c', Buffer.from('c')]]);
    assert.deepEqual(await heard(visit), [['drop', 'far']]);
    for (let i = 0; i < 2; i += 1) {
      const saved = await page.download(() => page.locator('#save').click());
      assert.deepEqual([saved.name, readFileSync(saved.path, 'utf8')], ['saved.bin', 'saved bytes']);
    }
  });
});

test('windows and colours are as asked, each profile begins anew', { timeout: SLOW }, async () => {
  const look = ({ page }) => page.evaluate(() => [innerWidth, innerHeight, getComputedStyle(document.body).color, localStorage.length]);
  const [light, dark] = ['rgb(17, 17, 17)', 'rgb(238, 238, 238)'];
  await pages.visit('/', { context: { viewport: { width: 390, height: 700 }, colorScheme: 'dark' } }, async (visit) => {
    const { page } = visit;
    await visit.ready();
    assert.deepEqual(await look(visit), [390, 700, dark, 0]);
    await page.evaluate(() => localStorage.setItem('kept', 'x'));
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1000, height: 600 });
    assert.deepEqual(await look(visit), [1000, 600, light, 1]);
  });
  await pages.visit('/', {}, async (visit) => {
    await visit.ready();
    assert.deepEqual(await look(visit), [1280, 720, light, 0]);
  });
  await pages.visit('/', { context: { permissions: ['clipboard-read', 'clipboard-write'] } }, async (visit) => {
    await visit.ready();
    const copied = await visit.page.evaluate(async () => {
      await navigator.clipboard.writeText('copied');
      return navigator.clipboard.readText();
    });
    assert.equal(copied, 'copied');
  });
});

test('answers of the server, scripts before all others, and no network reach workers, too', { timeout: SLOW }, async () => {
  await pages.visit('/', { expected: [/ERR_INTERNET_DISCONNECTED/] }, async (visit) => {
    const { page, context, url } = visit;
    await visit.ready();
    assert.deepEqual(await worker(visit, 'other.html'), ['undefined', FILES['other.html']]);
    assert.ok(visit.requests.some(({ method, path: asked }) => method === 'GET' && asked === '/other.html'));
    const pattern = /^\/other\.html$/;
    visit.route(pattern, async (file) => ({ status: 404, body: `not ${(await file()).length}` }));
    assert.equal((await worker(visit, 'other.html'))[1], `not ${FILES['other.html'].length}`);
    visit.unroute(pattern);
    await context.setOffline(true);
    const fetched = () => page.evaluate(() => fetch('other.html').then(({ status }) => status, () => 'none'));
    assert.equal(await fetched(), 'none');
    await context.setOffline(false);
    assert.equal(await fetched(), 200);
    await visit.stub(() => {
      globalThis.stubbed = 'before';
    });
    await page.goto(`${url}/?again`);
    await visit.ready();
    assert.equal(await page.evaluate(() => globalThis.stubbed), 'before');
    assert.deepEqual(await worker(visit), ['before', undefined]);
  });
});

test('what a page complains of is held against it', { timeout: SLOW }, async () => {
  const bad = {
    'console.error': () => console.error('said so'),
    'console.warn': () => console.warn('said so'),
    'an uncaught error': () => void setTimeout(() => { throw new Error('said so'); }),
    'a promise': () => void Promise.reject(new Error('said so')),
    'an error of a worker': () => globalThis.worker.postMessage('throw'),
    'console.error of a worker': () => globalThis.worker.postMessage('complain'),
  };
  await pages.visit('/', {}, async (visit) => {
    await visit.ready();
    for (const [what, body] of Object.entries(bad)) {
      await visit.page.evaluate(body);
      await visit.page.waitForTimeout(300);
      assert.throws(() => visit.check(), /said so/, what);
    }
  });
  const visited = pages.visit('/', {}, async (visit) => {
    await visit.ready();
    await visit.page.evaluate(bad['console.error']);
    await visit.page.waitForTimeout(300);
  });
  await assert.rejects(visited, /said so/, 'a visit looks by itself');
  await pages.visit('/', { expected: [/said so/] }, async (visit) => {
    await visit.ready();
    await visit.page.evaluate(bad['console.error']);
  });
});
