/**
 * Measures both families of kernels in a browser (Chromium, or $DUET_BROWSER): `node tests/tune.mjs SHAPES.json [SECONDS]` takes the shapes of a table
 * that `duet tune` wrote, prints a line for each, then the browser's table as JSON (where the browser keeps the
 * adapter's name to itself, it has none).
 */

import { readFileSync } from 'node:fs';
import { serve } from '../scripts/serve.mjs';
import { Visit, engine, launch, libraryFolders } from './browser.mjs';

const [file, seconds = '0.2'] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node tests/tune.mjs SHAPES.json [SECONDS]');
  process.exit(1);
}
const shapes = JSON.parse(readFileSync(file, 'utf8'));

/** Runs in the page. */
async function measure({ table, least }) {
  const module = await import('/dist/wasm/duet_web.js');
  await module.default({ module_or_path: '/dist/wasm/duet_web_bg.wasm' });
  try {
    return await module.tune(table, least);
  } catch (error) {
    // The module's errors are plain objects.
    throw new Error(JSON.stringify(error));
  }
}

const server = await serve(libraryFolders());
const browser = await launch();
try {
  const context = await browser.newContext();
  const page = await context.newPage();
  const visit = new Visit(page, context, server.url, []);
  await page.goto(`${server.url}/pages/library.html`);
  await visit.ready();
  /** @type {object[]} */
  const choices = [];
  let table;
  // One call a shape, so that a long list shows its progress.
  for (const choice of shapes.choices) {
    const one = JSON.stringify({ ...shapes, choices: [choice] });
    table = JSON.parse(await page.evaluate(measure, { table: one, least: Number(seconds) }));
    const [row] = table.choices;
    choices.push(row);
    const ratio = (row.direct_ms / row.tiled_ms).toFixed(2);
    const times = `${row.direct_ms.toFixed(1)} ms direct, ${row.tiled_ms.toFixed(1)} ms tiled, ratio ${ratio}`;
    console.log(`${row.operation} ${Object.values(row.shape).join(' ')}: ${times}`);
  }
  visit.check();
  console.log(JSON.stringify({ ...table, measured: `${engine.title} ${browser.version()}, ${table.measured}`, choices }));
} finally {
  await browser.close();
  await server.close();
}
