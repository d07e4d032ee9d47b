/**
 * Every pipeline of every shipped configuration compiles in a browser: its compiler is stricter than the native one in
 * places (uniformity, limits), and a page would otherwise find out only when it uses the kernel.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, site } from './browser.mjs';
import { FIXTURES, PAGES, fixture, shaders } from './paths.mjs';

/** Pipelines compiled at the same time. */
const AT_ONCE = 8;

const pages = site(() => {
  fixture('kernels.json');
  return { '/pages/': PAGES, '/fixtures/': FIXTURES };
});

test('every kernel compiles in the browser', { timeout: SLOW }, async () => {
  const kernels = JSON.parse(readFileSync(fixture('kernels.json'), 'utf8'));
  assert.ok(kernels.length >= 50, `only ${kernels.length} pipelines`);
  const files = new Set(kernels.map((k) => k.file.replace(/^.*\//, '').replace(/\.wgsl$/, '')));
  // Kernels of cooperative matrices are in a language that browsers do not have.
  const missing = shaders().filter((name) => !name.endsWith('_cooperative') && !files.has(name));
  assert.deepEqual(missing, [], 'shaders of which no pipeline is listed');

  await pages.visit('/pages/bare.html', {}, async ({ page }) => {
    const { failures, milliseconds, modules } = await page.evaluate(compileAll, AT_ONCE);
    console.log(`${kernels.length} pipelines of ${modules} modules in ${(milliseconds / 1000).toFixed(1)} s`);
    assert.deepEqual(failures, []);
  });
});

/** Runs in the page. @param {number} atOnce */
async function compileAll(atOnce) {
  const kernels = await (await fetch('/fixtures/kernels.json')).json();
  const adapter = await navigator.gpu.requestAdapter();
  // Without asking for more than every implementation of WebGPU offers, but for the kernels of subgroups: those run
  // natively alone, since a browser wants a line that naga does not read, and are only checked here.
  const device = await adapter.requestDevice({ requiredFeatures: ['subgroups'] });
  const failures = [];
  const modules = new Map();
  const started = performance.now();
  const compile = async ({ file, source, entry, constants }) => {
    const name = `${file}, ${entry}, ${JSON.stringify(constants)}`;
    try {
      let module = modules.get(source);
      if (module === undefined) {
        const code = file.endsWith('_subgroup') ? `enable subgroups;\n${source}` : source;
        module = device.createShaderModule({ code, label: file });
        modules.set(source, module);
        const info = await module.getCompilationInfo();
        for (const { type, message, lineNum } of info.messages) {
          if (type === 'error') failures.push(`${file}, line ${lineNum}: ${message}`);
        }
      }
      await device.createComputePipelineAsync({
        label: name,
        layout: 'auto',
        compute: { module, entryPoint: entry, constants },
      });
    } catch (error) {
      failures.push(`${name}: ${error.message}`);
    }
  };
  const queue = [...kernels];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await compile(next);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const milliseconds = performance.now() - started;
  device.destroy();
  return { failures, milliseconds, modules: modules.size };
}
