/**
 * Every pipeline of every shipped configuration compiles in a browser: its compiler is stricter than the native one in
 * places (uniformity, limits), and a page would otherwise find out only when it uses the kernel. What runs natively alone is
 * read by the browser's compiler, too, and no pipeline is made of it: for a kernel that fills a CPU's registers by eight lanes SwiftShader,
 * of four, takes minutes and gigabytes.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, engine, site, whole } from './browser.mjs';
import { FIXTURES, PAGES, fixture, shaders } from './paths.mjs';

/** Pipelines compiled at the same time. */
const AT_ONCE = 8;
/** How files of kernels end that need subgroups. */
const SUBGROUP = '_subgroup';
/** Whether pipelines differ by their constants alone, too: SwiftShader takes up to a second for each, and Firefox's driver a few milliseconds. */
const every = whole || engine.name === 'firefox';

const pages = site(() => {
  fixture('kernels.json');
  return { '/pages/': PAGES, '/fixtures/': FIXTURES };
});

test('every kernel compiles in the browser', { timeout: SLOW }, async (t) => {
  const kernels = JSON.parse(readFileSync(fixture('kernels.json'), 'utf8'));
  assert.ok(kernels.length >= 50, `only ${kernels.length} pipelines`);
  const files = new Set(kernels.map((k) => k.file.replace(/^.*\//, '').replace(/\.wgsl$/, '')));
  // Kernels of cooperative matrices are in a language that browsers do not have.
  const missing = shaders().filter((name) => !name.endsWith('_cooperative') && !files.has(name));
  assert.deepEqual(missing, [], 'shaders of which no pipeline is listed');

  const subgroups = kernels.filter(({ file }) => file.endsWith(SUBGROUP)).length;
  assert.ok(subgroups > 0, 'kernels of subgroups are listed');
  if (engine.lacks.subgroups) t.diagnostic(`${subgroups} pipelines of subgroups are not read: ${engine.lacks.subgroups}`);
  const pipelines = kernels.filter(({ file }) => !file.endsWith(SUBGROUP));
  const entries = new Set(pipelines.map(({ source, entry }) => `${entry}\n${source}`));
  if (!every) t.diagnostic(`of ${entries.size} entry points one pipeline each; with other constants: make slow-test`);

  await pages.visit('/pages/bare.html', {}, async ({ page }) => {
    const task = { atOnce: AT_ONCE, suffix: SUBGROUP, subgroups: !engine.lacks.subgroups, every };
    const { failures, compiled, milliseconds, modules } = await page.evaluate(compileAll, task);
    console.log(`${compiled} pipelines of ${modules} modules in ${(milliseconds / 1000).toFixed(1)} s`);
    assert.deepEqual(failures, []);
    assert.equal(compiled, every ? pipelines.length : entries.size);
    const read = engine.lacks.subgroups ? pipelines : kernels;
    assert.equal(modules, new Set(read.map(({ source }) => source)).size);
  });
});

/** Runs in the page. @param {{ atOnce: number, suffix: string, subgroups: boolean, every: boolean }} task */
async function compileAll({ atOnce, suffix, subgroups, every }) {
  const listed = await (await fetch('/fixtures/kernels.json')).json();
  const kernels = listed.filter(({ file }) => subgroups || !file.endsWith(suffix));
  const entries = new Set();
  const adapter = await navigator.gpu.requestAdapter();
  // Without asking for more than every implementation of WebGPU offers, but for the kernels of subgroups: those run
  // natively alone, since a browser wants a line that naga does not read.
  const device = await adapter.requestDevice({ requiredFeatures: subgroups ? ['subgroups'] : [] });
  const failures = [];
  let compiled = 0;
  const modules = new Map();
  const started = performance.now();
  const compile = async ({ file, source, entry, constants }) => {
    const name = `${file}, ${entry}, ${JSON.stringify(constants)}`;
    try {
      let module = modules.get(source);
      if (module === undefined) {
        const code = file.endsWith(suffix) ? `enable subgroups;\n${source}` : source;
        module = device.createShaderModule({ code, label: file });
        modules.set(source, module);
        const info = await module.getCompilationInfo();
        for (const { type, message, lineNum } of info.messages) {
          if (type === 'error') failures.push(`${file}, line ${lineNum}: ${message}`);
        }
      }
      if (file.endsWith(suffix)) return;
      const point = `${entry}\n${source}`;
      if (!every && entries.has(point)) return;
      entries.add(point);
      await device.createComputePipelineAsync({
        label: name,
        layout: 'auto',
        compute: { module, entryPoint: entry, constants },
      });
      compiled += 1;
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
  return { failures, compiled, milliseconds, modules: modules.size };
}
