/**
 * The page that the package's README shows works as it stands there.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { STRICT_POLICY } from '../scripts/serve.mjs';
import { SLOW, site } from './browser.mjs';
import { README, dist, fixture } from './paths.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'duet-readme-'));
after(() => rmSync(folder, { recursive: true }));

const pages = site(
  () => ({ '/': folder, '/dist/': dist(), '/model.safetensors': fixture('parity.safetensors') }),
  // A page to copy has its script inside.
  { policy: STRICT_POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'") },
);

test("the README's page explains an image", { timeout: SLOW }, async () => {
  const block = readFileSync(README, 'utf8').match(/^```html\n([\s\S]*?)^```$/m);
  assert.ok(block !== null, 'the README has a block of HTML');
  const page = block[1];
  assert.match(page, /\.\/dist\/index\.js/);
  assert.match(page, /\.\/model\.safetensors/);
  writeFileSync(path.join(folder, 'index.html'), page);
  // The browser asks for an icon by itself.
  await pages.visit('/', { expected: [/favicon\.ico/] }, async (visit) => {
    await visit.until(() => document.title.startsWith('done'), { what: 'a title that starts with "done"' });
    console.log(`the title is: ${await visit.page.title()}`);
    await visit.screenshot('readme');
  });
});
