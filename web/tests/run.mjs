/**
 * Runs the browser tests, one file after the other, in Chromium and then in Firefox: `npm test`, or
 * `node tests/run.mjs [--browser chromium|firefox] [PREFIX…]` for one browser, or the files whose names start so. Where nothing
 * is asked for, Firefox runs a part (`driver/engines.mjs` says which and why), and long tests do less (`whole` in `browser.mjs`);
 * `--browser chromium` and `--browser firefox` run all there.
 */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { ENGINES, engineOf, program } from './driver/engines.mjs';
import { TESTS } from './paths.mjs';

const USAGE = `usage: node tests/run.mjs [--browser ${Object.keys(ENGINES).join('|')}] [PREFIX…]`;

/** Far above what the whole takes; only a browser that hangs gets here. */
const LIMIT = 45 * 60_000;

/** @param {string[]} words */
function asked(words) {
  const prefixes = [];
  let browser;
  for (let i = 0; i < words.length; i += 1) {
    if (words[i] === '--browser') browser = engineOf(words[(i += 1)]);
    else if (words[i].startsWith('-')) throw new Error(USAGE);
    else prefixes.push(words[i]);
  }
  return { browser, prefixes };
}

/**
 * Runs files in a browser and answers whether all passed.
 * @param {import('./driver/engines.mjs').Engine} engine @param {string[]} files @param {boolean} whole
 */
function run({ name, title }, files, whole) {
  // One at a time: two browsers on a software device only slow each other down, and times are measured.
  const words = ['--test', '--test-concurrency=1', '--test-reporter=spec', ...files.map((file) => path.join(TESTS, file))];
  const started = Date.now();
  console.log(`${title}: ${files.length} files`);
  const child = spawn(process.execPath, words, { stdio: 'inherit', env: { ...process.env, DUET_BROWSER: name, DUET_WHOLE: whole ? '1' : '' } });
  const timer = setTimeout(() => {
    console.error(`the tests took longer than ${LIMIT / 60_000} minutes`);
    child.kill('SIGTERM');
  }, LIMIT);
  return new Promise((done) => {
    child.on('exit', (code) => {
      clearTimeout(timer);
      console.log(`${title}: ${files.length} files, ${((Date.now() - started) / 1000).toFixed(0)} s`);
      done(code === 0);
    });
  });
}

async function main() {
  const { browser, prefixes } = asked(process.argv.slice(2));
  const all = readdirSync(TESTS).filter((file) => file.endsWith('.test.mjs')).sort();
  const starts = (/** @type {string[]} */ names) => all.filter((file) => names.some((name) => file.startsWith(name)));
  const wanted = prefixes.length === 0 ? all : starts(prefixes);
  if (wanted.length === 0) throw new Error(`no test's name starts with ${prefixes.join(' or ')}`);
  /** @type {string[]} */
  const missing = [];
  const engines = (browser === undefined ? Object.values(ENGINES) : [browser]).filter((engine) => {
    try {
      return program(engine);
    } catch (error) {
      // Who names a browser means it.
      if (browser !== undefined || process.env[engine.variable]) throw error;
      missing.push(error.message);
      return false;
    }
  });
  if (engines.length === 0) throw new Error(missing.join('\n'));
  const say = () => missing.forEach((why) => console.error(`Not every browser is tested: ${why}.`));
  say();
  let passed = true;
  for (const engine of engines) {
    const whole = browser !== undefined || prefixes.length > 0;
    passed = (await run(engine, engine.short === undefined || whole ? wanted : starts(engine.short), whole)) && passed;
  }
  say();
  return passed;
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
