/**
 * Runs the browser tests, one file after the other: `npm test`, or `node tests/run.mjs api golden` for the files
 * whose names start so.
 */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { TESTS, chromium } from './paths.mjs';

/** Far above what the whole takes; only a browser that hangs gets here. */
const LIMIT = 30 * 60_000;

try {
  chromium();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

const wanted = process.argv.slice(2);
const files = readdirSync(TESTS)
  .filter((f) => f.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((w) => f.startsWith(w))))
  .sort()
  .map((f) => path.join(TESTS, f));
if (files.length === 0) {
  console.error(`no test's name starts with ${wanted.join(' or ')}`);
  process.exit(1);
}

// One at a time: two browsers on a software device only slow each other down, and times are measured.
const words = ['--test', '--test-concurrency=1', '--test-reporter=spec', ...files];
const started = Date.now();
const child = spawn(process.execPath, words, { stdio: 'inherit' });
const timer = setTimeout(() => {
  console.error(`the tests took longer than ${LIMIT / 60_000} minutes`);
  child.kill('SIGTERM');
}, LIMIT);
child.on('exit', (code, signal) => {
  clearTimeout(timer);
  console.log(`${files.length} files, ${((Date.now() - started) / 1000).toFixed(0)} s`);
  process.exit(code ?? (signal === null ? 0 : 1));
});
