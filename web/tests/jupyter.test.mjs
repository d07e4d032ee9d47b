/**
 * The example for notebooks: the widget's bundle with a kernel that the test plays, under a strict policy; and, where `DUET_JUPYTER` names
 * a Python with JupyterLab and anywidget (`make slow-test`), in a real notebook, whose kernel hears the answer.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { STRICT_POLICY } from '../scripts/serve.mjs';
import { SLOW, site } from './browser.mjs';
import { EXAMPLES, fixture } from './paths.mjs';
import { program, workplace } from './workplace.mjs';

const MODEL = 'tiny-grey-classes.safetensors';
const python = process.env.DUET_JUPYTER;

const project = workplace();
/** @type {Promise<string> | undefined} */
let built;
after(async () => (await project.catch(() => undefined))?.remove());

/** The example's folder with the bundle that its users have. */
function widget() {
  built ??= (async () => {
    const { folder } = await project;
    const { scripts } = JSON.parse(readFileSync(path.join(EXAMPLES, 'package.json'), 'utf8'));
    const started = Date.now();
    await program(folder, scripts.jupyter.split(' '));
    const bundle = readFileSync(path.join(folder, 'jupyter/duet_widget/widget.js'));
    const sizes = [bundle, gzipSync(bundle)].map((bytes) => `${(bytes.length / 1000).toFixed(0)} kB`);
    console.log(`built in ${((Date.now() - started) / 1000).toFixed(1)} s: 1 file, ${sizes[0]}, ${sizes[1]} packed`);
    return path.join(folder, 'jupyter');
  })();
  return built;
}

/** @type {string} */
let folder;
// A notebook's front end gets the bundle as a text and makes a module and a worker of it: blobs, and nothing from elsewhere.
const policy = STRICT_POLICY.replace("script-src 'self'", "script-src 'self' blob:").replace("worker-src 'self'", 'worker-src blob:');
assert.notEqual(policy, STRICT_POLICY);
const pages = site(() => ({ '/': folder, '/model.safetensors': fixture(MODEL) }), { policy });

test('the widget tells its kernel what the element tells the page', { timeout: SLOW }, async () => {
  folder = await widget();
  writeFileSync(path.join(folder, 'blank.html'), '<!doctype html><title>…</title><link rel="icon" href="data:," />');
  await pages.visit('/blank.html', {}, async (visit) => {
    await visit.page.evaluate(async () => {
      const values = {
        _source: { bytes: new DataView(await (await fetch('model.safetensors')).arrayBuffer()) },
        _image: {},
        options: { steps: 20, noise: 0.3 },
      };
      const heard = new Map();
      const tell = (name, value) => heard.get(name)?.forEach((hear) => hear(value));
      const kernel = {
        values,
        tell,
        listeners: () => [...heard.values()].flat().length,
        get: (name) => values[name],
        set: (name, value) => void (values[name] = value),
        save_changes: () => undefined,
        on: (name, hear) => heard.set(name, [...(heard.get(name) ?? []), hear]),
        off: (name, hear) => heard.set(name, heard.get(name).filter((one) => one !== hear)),
      };
      const text = await (await fetch('duet_widget/widget.js')).text();
      const module = await import(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));
      const leave = module.default.render({ model: kernel, el: document.body });
      Object.assign(globalThis, { kernel, leave });
    });
    const until = (/** @type {() => unknown} */ what, /** @type {string} */ name) => visit.until(what, { what: name });
    await until(() => globalThis.kernel.values.info?.imageSize > 0, 'a model');
    await visit.page.evaluate(() => {
      const { values, tell } = globalThis.kernel;
      const { imageSize: side } = values.info;
      const data = new DataView(Uint8Array.from({ length: side * side }, (_, i) => (37 * i) % 256).buffer);
      values._image = { data, shape: [side, side] };
      tell('change:_image');
    });
    await until(() => globalThis.kernel.values.probabilities?.length > 0, 'probabilities');
    await visit.page.evaluate(() => globalThis.kernel.tell('msg:custom', { explain: {} }));
    await until(() => globalThis.kernel.values.explanation?.after, 'an explanation');
    const told = await visit.page.evaluate(() => {
      const { info, probabilities, classification, explanation, error, _original, _counterfactual } = globalThis.kernel.values;
      const levels = ({ data, shape }) => ({ shape, levels: [...new Uint8Array(data.buffer)] });
      return { info, probabilities, classification, explanation, error, original: levels(_original), counterfactual: levels(_counterfactual) };
    });
    const { imageSize: side, channels, numClasses } = told.info;
    assert.deepEqual([told.error, told.probabilities.length, told.classification.probabilities.length], ['', numClasses, numClasses]);
    assert.ok(Math.abs(told.probabilities.reduce((sum, p) => sum + p, 0) - 1) < 1e-5);
    assert.deepEqual(told.explanation.before.probabilities.length, numClasses);
    for (const { shape, levels } of [told.original, told.counterfactual]) {
      assert.deepEqual([shape, levels.length], [[side, side, channels], side * side * channels]);
    }
    assert.deepEqual(told.original.levels, Array.from({ length: side * side }, (_, i) => (37 * i) % 256), 'the image itself');
    // What is wrong is told, and nothing is left when the cell's output goes.
    await visit.page.evaluate(() => {
      globalThis.kernel.values._source = { bytes: new DataView(new ArrayBuffer(64)) };
      globalThis.kernel.tell('change:_source');
    });
    await until(() => globalThis.kernel.values.error !== '', 'an error');
    const left = await visit.page.evaluate(() => {
      globalThis.leave();
      return [globalThis.kernel.listeners(), document.querySelectorAll('duet-explainer').length];
    });
    assert.deepEqual(left, [0, 0]);
  });
});

/** A server of notebooks in a folder, from the address that it prints. @param {string} home */
function jupyter(home) {
  const words = ['-m', 'jupyterlab', '--no-browser', '--port=0', '--ServerApp.port_retries=50', '--IdentityProvider.token=duet', '--expose-app-in-browser', '--allow-root'];
  const env = { ...process.env, JUPYTER_CONFIG_DIR: path.join(home, '.config'), JUPYTER_DATA_DIR: path.join(home, '.data'), JUPYTER_RUNTIME_DIR: path.join(home, '.runtime'), PYTHONPATH: home };
  const child = spawn(/** @type {string} */ (python), words, { cwd: home, env, stdio: ['ignore', 'ignore', 'pipe'] });
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (part) => {
      said += part;
      const url = said.match(/http:\/\/(localhost|127\.0\.0\.1):(\d+)\/lab/);
      if (url) resolve({ url: `http://127.0.0.1:${url[2]}`, stop: () => void child.kill() });
    });
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`JupyterLab ended with code ${code}:\n${said}`)));
  });
}

test('the notebook explains an image, and its kernel has the answer', { timeout: 2 * SLOW, skip: !python && 'DUET_JUPYTER names no Python with JupyterLab: `make slow-test` installs it' }, async () => {
  const home = (folder = await widget());
  copyFileSync(fixture(MODEL), path.join(home, 'model.safetensors'));
  const notebook = JSON.parse(readFileSync(path.join(home, 'explain.ipynb'), 'utf8'));
  const [show] = notebook.cells.filter(({ cell_type: type }) => type === 'code');
  const cell = (/** @type {string} */ id, /** @type {string[]} */ lines) => ({ cell_type: 'code', id, metadata: {}, execution_count: null, outputs: [], source: lines.join('\n') });
  // The notebook's own first cell, with an image of the kernel's in place of a file, and a witness.
  const source = [show.source].flat().join('').replace('"image.png"', 'image');
  assert.match(source, /image=image/);
  notebook.cells = [
    cell('image', ['import json, numpy as np', 'image = (np.arange(64, dtype=np.uint8) * 3).reshape(8, 8)']),
    cell('show', source.split('\n').slice(0, -1).concat([
      'def heard(change):',
      '    answer = dict(probabilities=widget.probabilities, explanation=widget.explanation, shape=widget.counterfactual.shape,',
      '                  levels=widget.counterfactual.tolist(), error=widget.error, info=widget.info)',
      '    open("heard.tmp", "w").write(json.dumps(answer))',
      '    import os; os.replace("heard.tmp", "heard.json")',
      'widget.observe(lambda change: widget.explain(), "probabilities")',
      'widget.observe(heard, "_counterfactual")',
      'widget',
    ])),
  ];
  writeFileSync(path.join(home, 'test.ipynb'), JSON.stringify(notebook));
  const server = await jupyter(home);
  try {
    writeFileSync(path.join(home, 'blank.html'), '<!doctype html><link rel="icon" href="data:," />');
    // Whatever JupyterLab itself complains of is not the widget's.
    await pages.visit('/blank.html', { expected: [/./] }, async (visit) => {
      await visit.page.goto(`${server.url}/lab/tree/test.ipynb?token=duet`);
      await visit.until(() => globalThis.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle', { what: 'a kernel' });
      await visit.page.evaluate(() => void globalThis.jupyterapp.commands.execute('notebook:run-all-cells'));
      const answer = path.join(home, 'heard.json');
      await visit.until(() => document.querySelector('duet-explainer')?.explanation !== undefined, { what: 'an explanation in the notebook' });
      for (let i = 0; !existsSync(answer) && i < 200; i += 1) await new Promise((done) => setTimeout(done, 100));
      const heard = JSON.parse(readFileSync(answer, 'utf8'));
      const shown = await visit.page.evaluate(() => {
        const { explanation } = document.querySelector('duet-explainer');
        return { after: [...explanation.after.probabilities], levels: [...explanation.counterfactual.data].filter((_, i) => i % 4 === 0) };
      });
      assert.equal(heard.error, '');
      assert.deepEqual(heard.explanation.after.probabilities, shown.after, 'the kernel has what the page shows');
      assert.deepEqual(heard.shape, [heard.info.imageSize, heard.info.imageSize, heard.info.channels]);
      assert.deepEqual(heard.levels.flat(2), shown.levels);
      console.log(`the kernel heard ${statSync(answer).size} bytes: ${heard.explanation.before.label} became ${heard.explanation.after.label}`);
    });
  } finally {
    server.stop();
  }
});
