/**
 * Runs the browser tests, in Chromium and in Firefox: `npm test`, or `node tests/run.mjs [--browser chromium|firefox] [PREFIX…]`
 * for one browser, or the files whose names start so. Where nothing is asked for, each browser runs a part (`driver/engines.mjs`
 * says which and why), and long tests do less (`whole` in `browser.mjs`); `--browser chromium` and `--browser firefox` run all there.
 */

import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { ENGINES, engineOf, program, usual } from './driver/engines.mjs';
import { TESTS } from './paths.mjs';

/** @typedef {import('./driver/engines.mjs').Engine} Engine */
/** Files that one process runs. @typedef {{ engine: Engine, files: string[], whole: boolean }} Job */

const USAGE = `usage: node tests/run.mjs [--browser ${Object.keys(ENGINES).join('|')}] [PREFIX…]`;

/** Far above what a job takes; only a browser that hangs gets here. */
const LIMIT = 20 * 60_000;

/**
 * Files at a time. A software device has many dispatches that are too small for two cores, and compiles shaders on one; beyond four
 * of them memory would count.
 */
const LANES = Math.min(4, availableParallelism());

const source = (/** @type {string} */ file) => readFileSync(path.join(TESTS, file), 'utf8');
/** What measures times, which another browser beside it would make longer. @param {string} file */
const alone = (file) => source(file).includes('assertResponsive');
/** What is content with a page of the library that others use, too: one process for all, whose pipelines are compiled once. @param {string} file */
const together = (file) => !alone(file) && source(file).includes('share: true') && !source(file).includes('site(');

/** @param {Engine} engine @param {string[]} files @param {boolean} whole @returns {Job[]} */
function jobsOf(engine, files, whole) {
  const group = files.filter(together);
  const rest = files.filter((file) => !group.includes(file)).map((file) => [file]);
  return [...(group.length > 0 ? [group] : []), ...rest].map((some) => ({ engine, files: some, whole }));
}

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

const seconds = (/** @type {number} */ since) => `${((Date.now() - since) / 1000).toFixed(0)} s`;

/** Runs a job and answers whether all passed; what it says comes in one piece. @param {Job} job */
function run({ engine: { name, title }, files, whole }) {
  const words = ['--test-reporter=spec', path.join(TESTS, 'group.mjs'), ...files.map((file) => path.join(TESTS, file))];
  const started = Date.now();
  const env = { ...process.env, DUET_BROWSER: name, DUET_WHOLE: whole ? '1' : '' };
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'], env });
  /** @type {Buffer[]} */
  const said = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => said.push(part));
  const timer = setTimeout(() => {
    said.push(Buffer.from(`${files.join(', ')} took longer than ${LIMIT / 60_000} minutes\n`));
    child.kill('SIGTERM');
  }, LIMIT);
  return new Promise((done) => {
    child.on('close', (code) => {
      clearTimeout(timer);
      process.stdout.write(Buffer.concat(said));
      console.log(`${title}: ${files.join(', ')}, ${seconds(started)}${code === 0 ? '' : ', FAILED'}\n`);
      done(code === 0);
    });
  });
}

/** Runs jobs, so many at a time, and answers those that failed. @param {Job[]} jobs @param {number} lanes */
async function runAll(jobs, lanes) {
  const queue = [...jobs];
  /** @type {Job[]} */
  const failed = [];
  const lane = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) if (!(await run(job))) failed.push(job);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return failed;
}

async function main() {
  const started = Date.now();
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
  const whole = browser !== undefined || prefixes.length > 0;
  /** @type {Job[]} */
  const jobs = engines.flatMap((engine) => {
    const files = whole ? wanted : wanted.filter((file) => usual(engine, file));
    return jobsOf(engine, files, whole);
  });
  const failed = [
    ...(await runAll(jobs.filter(({ files }) => !files.some(alone)), LANES)),
    ...(await runAll(jobs.filter(({ files }) => files.some(alone)), 1)),
  ];
  for (const { engine, files } of failed) console.log(`FAILED in ${engine.title}: ${files.join(', ')}`);
  console.log(`${jobs.flatMap(({ files }) => files).length} files in ${engines.map(({ title }) => title).join(' and ')}, ${seconds(started)}`);
  say();
  return failed.length === 0;
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
