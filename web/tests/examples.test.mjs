/**
 * The examples as their readers have them: each is built with the package as it would be published, and opened in a browser under a
 * strict policy. What bundlers leave out is named.
 */

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { SLOW, site, unlessWhole } from './browser.mjs';
import { EXAMPLES, fixture } from './paths.mjs';
import { program, serving, workplace } from './workplace.mjs';

const project = workplace();
/** @type {string} */
let folder;
after(async () => (await project.catch(() => undefined))?.remove());

const skip = unlessWhole('one bundler stands for all');

/** Where each page lies, of which bundle, and what builds it: the script of `package.json`. Two explain, the others classify. */
const PAGES = {
  page: { at: 'page/', bundle: 'node_modules/duet-diffusion/dist', build: undefined, pictures: 2 },
  vite: { at: 'vite/out/', bundle: 'vite/out', build: 'vite', pictures: 1 },
  webpack: { at: 'webpack/', bundle: 'webpack/out', build: 'webpack', pictures: 1 },
  esbuild: { at: 'esbuild/', bundle: 'esbuild/out', build: 'esbuild', pictures: 1 },
  react: { at: 'react/out/', bundle: 'react/out', build: 'react', pictures: 2 },
};

const pages = site(() => ({
  '/': folder,
  ...Object.fromEntries(
    [...Object.values(PAGES).map(({ at }) => at), 'alone/'].map((at) => [`/${at}model.safetensors`, fixture('tiny.safetensors')]),
  ),
}));

/** Kilobytes of a bundle, as they are and packed. @param {string} bundle */
function sizes(bundle) {
  const files = readdirSync(path.join(folder, bundle), { recursive: true }).map(String);
  const shown = {};
  for (const ending of ['.js', '.wasm']) {
    // The package has programs for other places, too.
    const parts = files.filter((file) => file.endsWith(ending) && !/(node|deno|files)\.js$/.test(file));
    const bytes = parts.map((file) => readFileSync(path.join(folder, bundle, file)));
    assert.ok(bytes.length > 0, `${bundle} has files ${ending}`);
    const sum = (/** @type {Buffer[]} */ all) => `${(all.reduce((n, one) => n + one.length, 0) / 1000).toFixed(0)} kB`;
    shown[ending] = `${parts.length} files, ${sum(bytes)}, ${sum(bytes.map((one) => gzipSync(one)))} packed`;
  }
  return shown;
}

for (const [name, { at, bundle, build, pictures }] of Object.entries(PAGES)) {
  test(`${name}: a page ${pictures === 2 ? 'explains' : 'makes and classifies'} an image in a worker`, { timeout: SLOW, skip: name === 'esbuild' ? false : skip }, async () => {
    ({ folder } = await project);
    const { scripts } = JSON.parse(readFileSync(path.join(EXAMPLES, 'package.json'), 'utf8'));
    const started = Date.now();
    if (build !== undefined) await program(folder, scripts[build].split(' '));
    console.log(`built in ${((Date.now() - started) / 1000).toFixed(1)} s:`, sizes(bundle));
    await pages.visit(`/${at}`, {}, async (visit) => {
      await visit.until(() => document.title.startsWith('done'), { what: 'a title that starts with "done"' });
      console.log(`the title is: ${await visit.page.title()}`);
      const shown = await visit.page.evaluate(() =>
        [...document.querySelectorAll('canvas')].map((canvas) => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]),
      );
      assert.equal(shown.length, pictures);
      assert.ok(shown[0].some((level) => level > 0 && level < 255), 'the image is shown');
      assert.equal(new Set(shown.map(String)).size, pictures, 'and its counterfactual is another');
    });
  });
}

test('vite: the page works while it is developed, too', { timeout: SLOW, skip }, async () => {
  ({ folder } = await project);
  copyFileSync(fixture('tiny.safetensors'), path.join(folder, 'vite/model.safetensors'));
  const server = await serving(folder, ['vite', 'vite', '--host', '127.0.0.1']);
  try {
    writeFileSync(path.join(folder, 'blank.html'), '<!doctype html><link rel="icon" href="data:," />');
    await pages.visit('/blank.html', {}, async (visit) => {
      await visit.page.goto(server.url);
      await visit.until(() => document.title.startsWith('done'), { what: 'a title that starts with "done"' });
    });
  } finally {
    server.stop();
  }
});

/** What a bundle lacks, and how the page is told. */
const LACKING = {
  'nothing was copied': { format: 'esm', files: {}, Duet: /wasm\/duet_web_bg\.wasm is not there: status 404\. It is the package's dist\/wasm\/duet_web_bg\.wasm.*`wasm`/, DuetWorker: /dist\/worker\.js is not there.*worker\.js.*duet-diffusion\/worker.*`worker`/ },
  'the worker was built, and nothing copied': { format: 'esm', files: { worker: 'duet-diffusion/worker' }, Duet: /status 404/, DuetWorker: /wasm\/duet_web_bg\.wasm is not there: status 404\. It is the package's dist\/wasm\/duet_web_bg\.wasm.*`wasm`/ },
  'the bundle is no module': { format: 'iife', files: {}, Duet: /build it as an ES module.*dist\/wasm\/duet_web_bg\.wasm/, DuetWorker: /dist\/worker\.js/ },
};

for (const [i, [name, { format, files, ...messages }]] of Object.entries(LACKING).entries()) {
  test(`esbuild: what is missing is named where ${name}`, { timeout: SLOW }, async () => {
    ({ folder } = await project);
    mkdirSync(path.join(folder, 'alone'), { recursive: true });
    const write = (/** @type {string} */ file, /** @type {string} */ text) => writeFileSync(path.join(folder, 'alone', file), text);
    write('main.js', `
      import { Duet, DuetWorker } from 'duet-diffusion';
      globalThis.failures = {};
      const tell = (kind) => ({ code, message }) => (failures[kind] = { code, message });
      Promise.all([Duet.load('model.safetensors').catch(tell('Duet')), DuetWorker.load('model.safetensors').catch(tell('DuetWorker'))])
        .then(() => (document.documentElement.dataset.ready = 'true'));
    `);
    write(`${i}.html`, `<!doctype html><title>…</title><link rel="icon" href="data:," /><script type="module" src="${i}/main.js"></script>`);
    const points = [`main=alone/main.js`, ...Object.entries(files).map(([to, from]) => `${to}=${from}`)];
    await program(folder, ['esbuild', ...points, '--bundle', `--format=${format}`, `--outdir=alone/${i}`, '--log-level=error']);
    await pages.visit(`/alone/${i}.html`, { expected: [/404/, /worker/i] }, async (visit) => {
      await visit.ready();
      const failures = await visit.page.evaluate(() => globalThis.failures);
      for (const [kind, message] of Object.entries(messages)) {
        console.log(`${kind}: ${failures[kind]?.message}`);
        assert.equal(failures[kind]?.code, 'network', kind);
        assert.match(failures[kind].message, message, kind);
      }
    });
  });
}
