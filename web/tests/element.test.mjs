/**
 * `<duet-explainer>`: on the page that shows it, by keyboard, in both colour schemes; and as an embedder has it: events, errors,
 * a model of one's own, several labels, other words, and what is left when it goes.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clean } from './axe.mjs';
import { SLOW, libraryPage, site } from './browser.mjs';
import { demo, fixture } from './paths.mjs';

const pages = site(() => ({ '/demo/': demo() }));
for (const name of ['tiny-grey-classes', 'tiny-colour-labels']) fixture(`${name}.safetensors`);

/** What the element of the page shows. @param {import('./browser.mjs').Visit} visit */
const seen = ({ page }) =>
  page.evaluate(() => {
    const root = document.querySelector('duet-explainer').shadowRoot;
    const text = (part) => root.querySelector(`[part=${part}]`).textContent;
    const canvases = [...root.querySelectorAll('[part=strip] canvas')];
    return {
      decision: text('decision'),
      verdict: text('verdict'),
      error: text('error-message'),
      targets: [...root.querySelector('select').options].map((one) => one.text),
      strip: root.querySelector('[part=strip]').checkVisibility(),
      pictures: canvases.map(({ width, height }) => `${width}x${height}`),
      labels: canvases.map((one) => one.getAttribute('aria-label')),
      focus: root.activeElement?.getAttribute('part') ?? root.activeElement?.localName,
    };
  });

test('on its page, by keyboard alone', { timeout: 2 * SLOW }, async () => {
  await pages.visit('/demo/embed.html', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    await visit.until(() => !document.querySelector('duet-explainer').shadowRoot.querySelector('[part=explain]').disabled, { what: 'the question' });
    const before = await seen(visit);
    assert.match(before.decision, /^The model sees: .+, >?\d+.%$/);
    assert.equal(before.targets.length, 9, 'every class but its own');
    assert.ok(!before.strip && before.verdict === '' && before.error === '');
    await page.evaluate(() => document.querySelector('duet-explainer').setAttribute('steps', '20'));
    await page.evaluate(() => document.querySelector('duet-explainer').focus());
    assert.equal((await seen(visit)).focus, 'input', 'the first place is the image');
    await page.keyboard.press('Tab');
    assert.equal((await seen(visit)).focus, 'target');
    await page.keyboard.press('Tab');
    assert.equal((await seen(visit)).focus, 'explain');
    await page.keyboard.press('Enter');
    await visit.until(() => document.querySelector('duet-explainer').explanation !== undefined, { what: 'the answer' });
    const after = await seen(visit);
    assert.ok(after.strip);
    assert.deepEqual(after.pictures, ['28x28', '28x28', '28x28']);
    assert.deepEqual(after.labels, ['Original', 'Counterfactual', 'Difference: blue where darker, red where brighter']);
    assert.match(after.verdict, /→ .*: the decision .* the mean change is .*%/);
    assert.equal(after.focus, 'explain', 'the keyboard is back where it was');
    assert.match(await page.locator('#heard').innerText(), /^explain: /);
    await clean(visit, 'embed');
    await visit.screenshot('embed-320-dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1000, height: 900 });
    await visit.screenshot('embed-light');
  });
});

const { run } = libraryPage({ share: true });

test('events, errors and what is left when it goes', { timeout: 2 * SLOW }, async () => {
  const got = await run(async () => {
    const { DuetExplainerElement } = await import('/dist/element.js');
    const heard = [];
    const note = ({ type, detail }) => heard.push(type === 'error' ? `error ${detail.code}` : type);
    for (const type of ['load', 'classify', 'explain', 'error']) document.addEventListener(type, note);
    const next = (type) => new Promise((done) => document.addEventListener(type, done, { once: true }));
    const image = (level) => new ImageData(new Uint8ClampedArray(4 * 12 * 12).fill(level), 12, 12);
    const made = [];

    const element = document.createElement('duet-explainer');
    const failed = next('error');
    element.setAttribute('src', '/fixtures/none.safetensors');
    document.body.append(element);
    await failed;
    made.push(['missing', heard.splice(0).join(), element.shadowRoot.querySelector('[role=alert]').textContent.length > 10]);

    const loaded = next('load');
    element.setAttribute('thread', 'main');
    element.setAttribute('src', '/fixtures/tiny-grey-classes.safetensors');
    await loaded;
    made.push(['loaded', heard.splice(0).join(), element.shadowRoot.querySelector('[role=alert]').textContent]);
    element.image = image(200);
    // The one that comes at once after it is the one that is meant.
    const classified = next('classify');
    element.image = image(40);
    await classified;
    await new Promise((done) => setTimeout(done, 300));
    made.push(['classified', heard.splice(0).join()]);

    element.options = { steps: 10, strength: 1, noise: 0.3 };
    const first = element.explain().catch((error) => error.code);
    const second = await element.explain();
    made.push(['a second question ends the first', await first, heard.splice(0).join(), second === element.explanation]);

    const asked = element.explain().catch((error) => error.code);
    element.cancel();
    made.push(['stopped', await asked, heard.splice(0).join(), element.shadowRoot.querySelector('[part=cancel]').hidden]);

    const refused = next('error');
    element.image = new Blob(['no picture'], { type: 'image/png' });
    await refused;
    made.push(['no picture', heard.splice(0).join(), element.classification === undefined]);
    made.push(['no answer', await element.explain().then(() => 'one', (error) => error.code)]);
    heard.length = 0;

    // Moved within the page it stays as it is; taken away it frees its model.
    const { model } = element;
    const box = document.createElement('div');
    document.body.append(box);
    box.append(element);
    await new Promise((done) => setTimeout(done, 50));
    made.push(['moved', element.model === model]);
    element.remove();
    await new Promise((done) => setTimeout(done, 50));
    made.push(['gone', element.model === undefined, await model.classify(image(0)).then(() => 'alive', (error) => error.code)]);

    // A model of the page's own is used and never freed.
    const own = await globalThis.duet.Duet.load('/fixtures/tiny-colour-labels.safetensors');
    const labels = document.createElement('duet-explainer');
    document.body.append(labels);
    labels.setAttribute('target', '-WBC');
    labels.model = own;
    labels.words = { explain: 'Erklären', sees: (label, p) => `Gesehen: ${label} ${p}`, flip: (label, present) => `${present ? 'mit' : 'ohne'} ${label}` };
    labels.image = image(90);
    await next('classify');
    const root = labels.shadowRoot;
    made.push(['words', root.querySelector('[part=explain]').textContent, root.querySelector('[part=decision]').textContent.split(' ')[0]]);
    const options = [...root.querySelector('select').options];
    made.push(['labels', options.map(({ value }) => value.slice(1)).join(), options.every(({ text, value }) => text.startsWith(value[0] === '+' ? 'mit ' : 'ohne '))]);
    made.push(['chosen', root.querySelector('select').value.slice(1)]);
    const answer = await labels.explain();
    made.push(['explained', answer.method, labels.explanation === answer]);
    labels.remove();
    await new Promise((done) => setTimeout(done, 50));
    made.push(['kept', await own.classify(image(0)).then(() => 'alive', (error) => error.code)]);
    await own.dispose();
    made.push(['defined', customElements.get('duet-explainer') === DuetExplainerElement]);
    return made;
  });
  assert.deepEqual(got, [
    ['missing', 'error network', true],
    ['loaded', 'load', ''],
    ['classified', 'classify'],
    ['a second question ends the first', 'aborted', 'explain', true],
    ['stopped', 'aborted', '', true],
    ['no picture', 'error bad-input', true],
    ['no answer', 'bad-input'],
    ['moved', true],
    ['gone', true, 'disposed'],
    ['words', 'Erklären', 'Gesehen:'],
    ['labels', 'RBC,WBC,Platelets', true],
    ['chosen', 'WBC'],
    ['explained', 'local', true],
    ['kept', 'alive'],
    ['defined', true],
  ]);
});
