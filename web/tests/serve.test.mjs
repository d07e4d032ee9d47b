/**
 * `duet serve`: the page with another model, as the command gives it.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { SLOW, Visit, launch } from './browser.mjs';
import { command, demo, fixture } from './paths.mjs';
import { bars, idle, start } from './visitor.mjs';

test('a model of one\u2019s own is behind the page', { timeout: SLOW }, async () => {
  const model = fixture('tiny-colour-labels.safetensors');
  const child = spawn(command(), ['--json', 'serve', model, '--page', demo(), '--port', '0'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const browser = await launch();
  try {
    const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    const { address } = JSON.parse(value);
    const context = await browser.newContext();
    const page = await context.newPage();
    const visit = new Visit(page, context, address, []);
    await page.goto(address);
    await start(visit);
    await page.locator('#clear').click();
    await idle(visit);
    const labels = (await bars(visit)).map((bar) => bar.split(/\s/)[0]);
    assert.ok(labels.includes('WBC'), String(labels));
    assert.equal(await page.locator('#sample-grid button').count(), 0);
    visit.check();
    await page.goto(`${address}check`);
    await visit.ready();
    assert.equal(await page.locator('#check').innerText(), 'Check this device');
    visit.check();
  } finally {
    await browser.close();
    child.kill();
  }
});
