/**
 * The tests' own tools: server, reader of safetensors files, generator. They need no browser and no built library.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { serve } from '../scripts/serve.mjs';
import { GOLDEN, TESTS } from './paths.mjs';
import { Record } from './record.mjs';
import { readSafetensors } from './safetensors.mjs';
import { COLUMNS, formula, generator, summary } from './summary.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'duet-serve-'));
after(() => rmSync(folder, { recursive: true }));
const inside = path.join(folder, 'site');
mkdirSync(path.join(inside, 'sub'), { recursive: true });
writeFileSync(path.join(folder, 'secret.txt'), 'secret');
writeFileSync(path.join(inside, 'sub', 'index.html'), '<p>page</p>');
writeFileSync(path.join(inside, 'more.html'), '<p>more</p>');
writeFileSync(path.join(inside, 'a.wasm'), 'wasm');
writeFileSync(path.join(inside, 'm.safetensors'), 'weights');
symlinkSync(path.join(folder, 'secret.txt'), path.join(inside, 'link.txt'));

/** A request whose path node does not tidy up, unlike fetch. @param {string} url @param {string} raw @param {string} [method] */
function ask(url, raw, method = 'GET') {
  const { hostname, port } = new URL(url);
  return new Promise((done, failed) => {
    const sent = request({ hostname, port, path: raw, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => (text += part));
      response.on('end', () => done({ status: response.statusCode, headers: response.headers, text }));
    });
    sent.on('error', failed);
    sent.end();
  });
}

test('the server sends files with their types and the policy', async () => {
  const server = await serve({ '/': inside, '/other/': inside, '/one.txt': path.join(folder, 'secret.txt') });
  try {
    const page = await ask(server.url, '/sub/');
    assert.equal(page.status, 200);
    assert.match(page.headers['content-type'], /^text\/html/);
    assert.match(page.headers['content-security-policy'], /default-src 'none'.*'wasm-unsafe-eval'.*form-action 'none'/);
    assert.equal(page.headers['x-content-type-options'], 'nosniff');
    const moved = await ask(server.url, '/sub');
    assert.equal(moved.status, 301);
    assert.equal(moved.headers.location, '/sub/');
    const more = await ask(server.url, '/more?x=1');
    assert.equal(more.text, '<p>more</p>', 'a page is found without its ending');
    assert.match(more.headers['content-type'], /^text\/html/);
    assert.ok(more.headers['content-security-policy']);
    for (const none of ['/more/', '/more.htm', '/sub/more']) assert.equal((await ask(server.url, none)).status, 404, none);
    const wasm = await ask(server.url, '/other/a.wasm?x=1');
    assert.equal(wasm.headers['content-type'], 'application/wasm');
    assert.equal(wasm.headers['content-length'], '4');
    assert.equal((await ask(server.url, '/m.safetensors')).headers['content-type'], 'application/octet-stream');
    assert.equal((await ask(server.url, '/one.txt')).text, 'secret');
    assert.equal((await ask(server.url, '/a.wasm', 'HEAD')).text, '');
    assert.equal((await ask(server.url, '/a.wasm', 'POST')).status, 405);
    assert.equal((await ask(server.url, '/none')).status, 404);
    assert.equal((await ask(server.url, '/other')).status, 301);
  } finally {
    await server.close();
  }
});

test('the server keeps to its folder', async () => {
  const server = await serve(inside);
  try {
    const paths = ['/../secret.txt', '/%2e%2e/secret.txt', '/sub/..%2f..%2fsecret.txt', '/..%5csecret.txt', '/link.txt'];
    for (const raw of [...paths, '/%00', '/%E0%A4%A', '//../secret.txt']) {
      const { status, text } = await ask(server.url, raw);
      assert.ok(status >= 400 && status < 500, `${raw}: ${status}`);
      assert.ok(!text.startsWith('secret'), raw);
    }
  } finally {
    await server.close();
  }
});

test('the server says what is wrong', async () => {
  await assert.rejects(serve(path.join(folder, 'nowhere')), /there is no .*nowhere/);
  const server = await serve(inside);
  try {
    const port = Number(new URL(server.url).port);
    await assert.rejects(serve(inside, { port }), /port \d+ is taken/);
    const script = path.resolve(TESTS, '../scripts/serve.mjs');
    const run = (/** @type {string[]} */ ...words) => spawnSync(process.execPath, [script, ...words], { encoding: 'utf8' });
    for (const words of [[], ['a', 'b'], [inside, '--port', 'x'], [path.join(folder, 'nowhere')]]) {
      const { status, stderr } = run(...words);
      assert.equal(status, 1, words.join(' '));
      assert.doesNotMatch(stderr, /\n\s+at /, 'a message, not a trace');
    }
    assert.match(run(inside, '--port', String(port)).stderr, /is taken/);
  } finally {
    await server.close();
  }
});

test('the generator gives the documented numbers', () => {
  assert.equal(generator('input_blocks.0.0.weight')(0), 0.6540126204490662);
  const bits = (/** @type {Float32Array} */ data) =>
    [...new Uint32Array(data.buffer, 0, 3)].map((w) => w.toString(16)).join(' ');
  assert.equal(bits(formula('', 'input_blocks.0.0.weight', [32, 1, 3, 3])), '3dd24750 be8105b3 be0846d3');
  assert.equal(bits(formula('', 'input_blocks.0.0.bias', [32])), 'ba8e6e9a 3ce1f727 3d223de7');
  assert.equal(bits(formula('', 'input_blocks.1.0.in_layers.0.weight', [32])), '3f821f61 3f85da4e 3f8a06c4');
  assert.equal(bits(formula('', 'clasifier.bn_1.running_mean', [673])), 'bd92b877 bda1b92f 3d115f6d');
  assert.equal(bits(formula('', 'clasifier.bn_1.running_var', [673])), '3fa5ce4a 3f9babea 3fb2227a');
});

test('the reader and the summaries agree with the golden file', () => {
  const { metadata, tensors } = readSafetensors(readFileSync(path.join(GOLDEN, 'mnist28_c32.safetensors')));
  assert.deepEqual(tensors.get('model_out_f64').shape, [4, 1, 28, 28]);
  assert.equal(tensors.get('input.t').data.length, 4);
  const shapes = new Map(metadata.params);
  const want = tensors.get('params_before').data;
  const record = new Record('parameters before training');
  metadata.param_names.forEach((name, row) => {
    const data = formula(metadata.config.name_prefix, name, shapes.get(name));
    const root = Math.sqrt(data.length);
    const rows = want.slice(COLUMNS * row, COLUMNS * (row + 1));
    const scales = [rows[0], rows[0] * root, rows[0] * root];
    summary(name, data).forEach((value, column) => {
      const slack = 1e-6 * (scales[column] ?? Math.abs(rows[column])) + 1e-12;
      record.ratio(`${name}, column ${column}`, Math.abs(value - rows[column]) / slack, `${value}, not ${rows[column]}`);
    });
  });
  record.finish();
  assert.throws(() => readSafetensors(new Uint8Array(4)), /not a safetensors file/);
  assert.throws(() => readSafetensors(new Uint8Array(64).fill(255)), /not a safetensors file/);
});
