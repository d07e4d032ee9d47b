/**
 * The demo page's menu of models: choosing, links to a model, downloads that fail or are stopped, and models of the
 * visitor's own.
 */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, site } from './browser.mjs';
import { demo, fixture } from './paths.mjs';
import { png } from './png.mjs';
import { UNASKED, bars, dropFiles, idle, more, openModel, pixels, shown, start, text, work } from './visitor.mjs';

const pages = site(() => ({ '/demo/': demo() }));
/** One visit, whose models are many: each test goes on with the one that the test before it ended with. */
const onPage = pages.kept('/demo/?thread=main', { share: true });
/** What the address says of models. @param {import('./browser.mjs').Page} page */
const model = (page) => new URL(page.url()).searchParams.get('model');

/** @typedef {import('./browser.mjs').Visit} Visit */

/** The list that the page is built with. */
const list = () => JSON.parse(readFileSync(path.join(demo(), 'models.json'), 'utf8'));
/** A model of the menu by the name it shows. @param {Visit} visit @param {string} name */
const card = ({ page }, name) => page.locator(`#model-menu button[title="${name}"]`);
/** Name of the model in use, as the menu marks it. @param {Visit} visit */
const used = ({ page }) => page.locator('#model-menu [aria-pressed=true]').evaluateAll((all) => all.map((one) => one.title).join());
/** Chooses a model and waits for it. @param {Visit} visit @param {string} name */
async function choose(visit, name) {
  await card(visit, name).click();
  await visit.until((wanted) => document.querySelector('#model-menu [aria-pressed=true]')?.title === wanted && document.documentElement.dataset.ready === 'true', { what: name, argument: name });
  await idle(visit);
}
/** Short chains: after each answer the page inverts the image, as long as these say. @param {Visit} visit */
async function quick({ page }) {
  await more(page);
  await page.locator('#steps').selectOption('25');
  await page.locator('#noise').fill('0.05');
}

test('what the list names is there, each sample too', () => {
  const models = list();
  assert.ok(models.length >= 2);
  assert.equal(new Set(models.map(({ id }) => id)).size, models.length, 'no two of one name');
  for (const { name, file, card: about, icon, samples, credit } of models) {
    for (const one of [file, about, icon, `${samples}/index.json`]) assert.ok(existsSync(path.join(demo(), one)), `${name}: ${one}`);
    const index = JSON.parse(readFileSync(path.join(demo(), samples, 'index.json'), 'utf8'));
    for (const sample of index) assert.ok(existsSync(path.join(demo(), samples, sample.file)), sample.file);
    // Whose pictures they are is said; a notice that is linked lies beside them.
    assert.ok(credit.length > 10, name);
    for (const [, address] of credit.matchAll(/\]\(([^)]*)\)/g)) {
      assert.ok(address.startsWith('https://') || existsSync(path.join(demo(), address)), address);
    }
  }
});

test('a model of the menu takes the place of the first, with its pictures, labels and address', { timeout: 3 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    assert.equal(await used(visit), 'Fashion-MNIST');
    assert.equal(model(page), null, 'the first one needs no word');
    const weights = () => visit.requests.map(({ path: address }) => address).filter((address) => address.endsWith('.safetensors'));
    assert.deepEqual(weights(), ['/demo/model.safetensors'], 'only the model in use is fetched');
    await quick(visit);
    await work(visit, () => page.locator('#explain').click());
    assert.match(page.url(), /#.*sample=/);

    await choose(visit, 'Blood cells');
    assert.deepEqual(weights(), ['/demo/model.safetensors', '/demo/models/blood-cells/model.safetensors']);
    assert.equal(await used(visit), 'Blood cells');
    assert.equal(await text(visit, 'alert'), '');
    assert.match(await text(visit, 'status'), /Ready.*3.labels.*32×32 colour/s);
    const address = new URL(page.url());
    assert.equal(model(page), 'blood-cells');
    assert.equal(address.hash, '', 'the question was one to the model before');
    // Its pictures and labels, none of the model before.
    assert.deepEqual((await bars(visit)).map((bar) => bar.split(/\s/)[0]), ['RBC', 'WBC', 'Platelets']);
    const labels = await page.locator('#sample-grid button').evaluateAll((all) => all.map((one) => one.dataset.label));
    assert.ok(labels.length >= 8 && labels.includes('RBC, WBC'), String(labels));
    assert.equal((await pixels(visit, 'draw')).length, 4 * 32 * 32);
    assert.equal(await page.locator('#draw').getAttribute('aria-label'), `The image: ${labels[0]}`);
    assert.equal(await page.locator('#sample-grid [aria-pressed=true]').getAttribute('data-label'), labels[0]);
    assert.ok((await shown(visit, 'labels')) && !(await shown(visit, 'target')));
    assert.match(await text(visit, 'samples-credit'), /BCCD.*MIT licence/);
    assert.match(await text(visit, 'result-outdated'), /loaded before/);
    // That its ground is light is no surprise to it.
    assert.doesNotMatch(await text(visit, 'likeness'), /Invert/);
    await page.locator('#about summary').click();
    assert.match(await page.locator('#model-card-link').getAttribute('href'), /blood-cells\/MODEL\.md$/);
    await page.locator('#tab-train').click();
    assert.ok(await shown(visit, 'train-labels-note'));
    await page.locator('#train-add-all').click();
    assert.equal(await page.locator('#train-list li').count(), labels.length, 'the samples of this model, once each');
    await page.locator('#tab-explain').click();
    await clean(visit, 'labels');
    await page.locator('#tab-measure').click();
    await clean(visit, 'measure, refused');
    await page.locator('#tab-explain').click();
    await page.setViewportSize({ width: 1280, height: 720 });
    await visit.screenshot('demo-blood-cells');

    // The link to a question opens its model.
    await page.locator('#labels [data-label=Platelets]').click();
    // By a method that makes nothing ahead where the link leads.
    await page.locator('#method').selectOption('paper');
    await work(visit, () => page.locator('#explain').click());
    const link = page.url();
    assert.match(link, /[?&]model=blood-cells#sample=\d+\.png&target=(%2B|-)Platelets/);
    const flipped = await page.locator('#labels .flipped').innerText();
    await page.goto('about:blank');
    await page.goto(link);
    await start(visit);
    assert.equal(await used(visit), 'Blood cells');
    assert.equal(await page.locator('#labels .flipped').innerText(), flipped);
    assert.equal(page.url(), link, 'the question stays in the address');
    assert.equal(await page.locator('#steps').inputValue(), '25');

    // Back: the first model's words again.
    await choose(visit, 'Fashion-MNIST');
    assert.deepEqual([model(page), new URL(page.url()).hash], [null, '']);
    assert.equal(await page.locator('#sample-grid button').count(), 64);
    assert.match(await text(visit, 'samples-credit'), /Fashion-MNIST.*MIT licence/);
    assert.ok(!(await shown(visit, 'labels')) && (await shown(visit, 'target')));
    assert.equal((await bars(visit)).length, 10);
  });
});

test('choosing stops what runs, and of two that are chosen the last is loaded', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await more(page);
    await page.locator('#steps').selectOption('100');
    await page.locator('#noise').fill('0.6');
    await page.locator('#explain').click();
    await visit.until(() => document.getElementById('explain-progress').value > 0, { what: 'progress' });
    await quick(visit);
    await card(visit, 'Blood cells').click();
    await card(visit, 'Fashion-MNIST').click();
    await choose(visit, 'Blood cells');
    assert.equal(await text(visit, 'alert'), '');
    assert.equal(await shown(visit, 'result'), false, 'the answer of the model before never came');
    assert.deepEqual((await bars(visit)).map((bar) => bar.split(/\s/)[0]), ['RBC', 'WBC', 'Platelets']);
    assert.ok(await page.locator('#explain').isEnabled());
    assert.match(await text(visit, 'status'), /Ready/);
    // What the visitor drew stays, whichever model reads it.
    const picture = png(40, 40, (x) => 6 * x);
    await work(visit, () => page.locator('#upload').setInputFiles({ name: 'mine.png', mimeType: 'image/png', buffer: picture }));
    await choose(visit, 'Fashion-MNIST');
    assert.match(await page.locator('#draw').getAttribute('aria-label'), /mine\.png/);
    assert.equal((await pixels(visit, 'draw')).length, 4 * 28 * 28);
  });
});

test('a download that fails, breaks off or is stopped leaves the model that was there', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    visit.expected.push(/404|ERR_|could not be fetched|broke off|checkpoint/i);
    await start(visit);
    await quick(visit);
    const before = await bars(visit);
    const weights = /\/models\/blood-cells\/model\.safetensors$/;
    const unchanged = async () => {
      assert.equal(await used(visit), 'Fashion-MNIST');
      assert.equal(await page.locator('#model-menu [aria-busy=true]').count(), 0);
      assert.equal(await page.locator('#sample-grid button').count(), 64);
      assert.deepEqual(await bars(visit), before);
      assert.equal(model(page), null);
      assert.match(await text(visit, 'status'), /Still using Fashion-MNIST, the model loaded before/);
    };
    visit.route(weights, () => ({ status: 404, body: 'no' }));
    await work(visit, () => card(visit, 'Blood cells').click());
    assert.match(await text(visit, 'alert'), /blood-cells\/model\.safetensors could not be fetched: status 404/);
    await unchanged();
    visit.unroute(weights);
    // A page that a server sends in place of a file.
    visit.route(weights, () => ({ type: 'text/html', body: '<!doctype html><title>Lost</title>' }));
    await work(visit, () => card(visit, 'Blood cells').click());
    assert.match(await text(visit, 'alert'), /model\.safetensors is no model that Duet can read/);
    await unchanged();
    visit.unroute(weights);
    // Stopped by hand: no failure.
    let answer = () => {};
    visit.route(weights, async () => {
      await new Promise((done) => {
        answer = () => done(undefined);
      });
      return { status: 404, body: 'too late' };
    });
    await card(visit, 'Blood cells').click();
    await visit.until(() => !document.getElementById('load-cancel').hidden, { what: 'something to cancel' });
    assert.equal(await card(visit, 'Blood cells').getAttribute('aria-busy'), 'true');
    await page.locator('#load-cancel').click();
    await idle(visit);
    assert.equal(await text(visit, 'alert'), '');
    await unchanged();
    answer();
    visit.unroute(weights);
    // And it works once the network does.
    await choose(visit, 'Blood cells');
    assert.equal((await bars(visit)).length, 3);
  });
});

test('the menu by keyboard: one stop, arrows move, Enter chooses, and nothing is loaded before', { timeout: SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    await start(visit);
    await quick(visit);
    const first = await used(visit);
    await page.evaluate(() => document.activeElement?.blur());
    await page.locator('h1').click();
    await page.keyboard.press('Tab');
    const at = () => page.evaluate(() => document.activeElement?.title);
    assert.equal(await at(), first);
    await page.keyboard.press('Home');
    const other = await at();
    assert.notEqual(other, first);
    await idle(visit);
    assert.equal(await used(visit), first, 'moving chooses nothing');
    await page.keyboard.press('Enter');
    await visit.until((name) => document.querySelector('#model-menu [aria-pressed=true]')?.title === name, { what: 'the other model', argument: other });
    await idle(visit);
    assert.equal(await at(), other, 'the keyboard keeps its place');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'open-model');
    // Its name without the picture of a plus, which says nothing to who hears it.
    const heard = await page.locator('#open-model').evaluate(({ labels }) =>
      [...labels[0].children].filter((part) => part.ariaHidden !== 'true').map((part) => part.innerText.split('\n')[0]));
    assert.deepEqual(heard, ['Open a model…']);
  });
});

test('a model dropped anywhere is used, appears in the menu and goes nowhere', { timeout: 2 * SLOW }, async () => {
  await onPage(async (visit) => {
    const { page } = visit;
    visit.expected.push(/checkpoint|BadCheckpoint/i);
    await start(visit);
    await quick(visit);
    /** @type {string[]} */
    const sent = [];
    page.on('request', (request) => {
      if (!request.url().startsWith(visit.url)) sent.push(request.url());
    });
    const bytes = readFileSync(fixture('tiny-colour-labels.safetensors'));
    const names = () => page.locator('#model-menu button').evaluateAll((all) => all.map((one) => one.title));
    const before = await names();
    // On the card for pictures, too: its name says what it is.
    for (const [zone, name] of [['#drop', 'mine.safetensors'], ['.tabs', 'other.safetensors']]) {
      await dropFiles(visit, zone, [[name, bytes]]);
      await visit.until((title) => document.querySelector('#model-menu [aria-pressed=true]')?.title === title, { what: name, argument: name.split('.')[0] });
      await idle(visit);
      assert.equal(await text(visit, 'alert'), '');
    }
    assert.deepEqual(await names(), [...before, 'mine', 'other']);
    assert.deepEqual((await bars(visit)).map((bar) => bar.split(/\s/)[0]), ['RBC', 'WBC', 'Platelets']);
    assert.match(await text(visit, 'models'), /stay on this machine: nothing is uploaded/);
    assert.equal(model(page), null, 'no address leads to a file of the visitor');

    // Any file dropped on the menu is to be a model, and what it is instead is said.
    const wrong = { 'weights.pt': Buffer.from('PK\x03\x04 and more that is no model at all'), 'cut.safetensors': bytes.subarray(0, bytes.length >> 1) };
    for (const [name, content] of Object.entries(wrong)) {
      await work(visit, () => dropFiles(visit, '#models', [[name, content]]));
      assert.match(await text(visit, 'alert'), new RegExp(`^${name.replace('.', '\\.')} is no model that Duet can read: .{10}`));
      assert.equal(await used(visit), 'other');
      assert.match(await text(visit, 'status'), /Still using other/);
    }
    assert.deepEqual(await names(), [...before, 'mine', 'other'], 'what is no model is not offered');
    await visit.screenshot('demo-models-refused');

    // Back and forth, by the menu; a file of the same name is the newer one.
    await choose(visit, 'Fashion-MNIST');
    assert.equal((await bars(visit)).length, 10);
    await choose(visit, 'mine');
    assert.equal((await bars(visit)).length, 3);
    await openModel(visit, { name: 'mine.safetensors', mimeType: 'application/octet-stream', buffer: readFileSync(fixture('tiny.safetensors')) });
    assert.deepEqual(await names(), [...before, 'other', 'mine']);
    assert.match((await bars(visit))[0], /dark/);
    // Of several one is used, and the page says so.
    await work(visit, () => dropFiles(visit, '#models', [['a.safetensors', bytes], ['b.safetensors', bytes]]));
    assert.equal(await used(visit), 'a');
    assert.match(await text(visit, 'alert'), /left out: 1.file \(b\.safetensors\)/);
    assert.deepEqual(sent, [], 'nobody else was asked');
    assert.deepEqual(visit.requests.filter(({ method }) => method !== 'GET'), [], 'nothing left the page');
  });
});

test('without its list the page takes a model of one\u2019s own', { timeout: SLOW }, async () => {
  await pages.visit(UNASKED, { expected: [/404|models\.json/] }, async (visit) => {
    const { page } = visit;
    // A page that is left while it fetches complains in some browsers.
    await start(visit);
    visit.route(/\/models\.json$/, () => ({ status: 404, body: 'no' }));
    await page.goto('about:blank');
    await page.goto(visit.url + UNASKED);
    await visit.ready();
    await idle(visit);
    assert.match(await text(visit, 'alert'), /list of models could not be fetched: models\.json: status 404/);
    await openModel(visit, { name: 'mine.safetensors', mimeType: 'application/octet-stream', buffer: readFileSync(fixture('tiny.safetensors')) });
    assert.equal(await used(visit), 'mine');
  });
});
