/**
 * A browser with WebGPU for the tests of one file: pages served from this machine, with everything that a page complains
 * about on its console collected and held against it. Which browser: `driver/engines.mjs`.
 */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import { STRICT_POLICY, serve } from '../scripts/serve.mjs';
import { engine } from './driver/engines.mjs';
import { launch } from './driver/launch.mjs';
import { Unreached } from './driver/wire.mjs';
import { shareDevice } from './pages/share.mjs';
import { ARTIFACTS, FIXTURES, PAGES, TESTS, dist, fixture } from './paths.mjs';

export { engine, launch };

/** Starting a browser, loading a page and compiling a model's pipelines on a software device, another file beside it. */
export const SLOW = 300_000;

/** Less than that, for what one moment of a test waits for: its name is told where it never comes. */
const PATIENCE = 200_000;

/** Whether tests do all that they can, or what `make test` has time for: `run.mjs` sets it where a browser or a file is asked for. */
export const whole = process.env.DUET_WHOLE !== '';

/** What is said of a test that `make test` leaves to `make slow-test`, or `false` where all is done. @param {string} reason */
export const unlessWhole = (reason) => (whole ? false : `make slow-test: ${reason}`);

/** Milliseconds after which a page that does not answer is asked once more. */
const SILENCE = 20_000;

/** Milliseconds for which nothing else of the page may run: usually, and once. A step of an explanation takes 100. */
const GAPS = { usual: 50, longest: 1000 };

/** The page went on running meanwhile. @param {{usual: number, longest: number}} gaps of the helper `timerGaps` */
export function assertResponsive(gaps) {
  console.log('gaps of a 10 ms timer:', gaps);
  assert.ok(gaps.usual <= GAPS.usual, `again and again nothing else ran for ${gaps.usual.toFixed(0)} ms`);
  assert.ok(gaps.longest <= GAPS.longest, `nothing else ran for ${gaps.longest.toFixed(0)} ms`);
}

/** @typedef {import('./driver/page.mjs').Page} Page */
/** @typedef {import('./driver/page.mjs').Context} BrowserContext */
/** @typedef {import('./driver/launch.mjs').Browser} Browser */
/** @typedef {{ status?: number, type?: string, body: string }} Answer */

/** The folders of a test page: the library, fixtures, pages and the tests' own modules. */
export function libraryFolders() {
  fixture('tiny.safetensors');
  return { '/dist/': dist(), '/fixtures/': FIXTURES, '/pages/': PAGES, '/tests/': TESTS };
}

/** Makes a browser one without WebGPU. */
function withoutWebGpu() {
  Object.defineProperty(Object.getPrototypeOf(navigator), 'gpu', { get: () => undefined, configurable: true });
}

/** Asks the server for the file, whatever is answered in its place. */
const FILE = 'x-file';

/** What a server of tests answers in place of its files, and what it was asked. */
class Desk {
  /** @type {Map<RegExp, (file: () => Promise<string>) => Promise<Answer> | Answer>} */
  routes = new Map();
  /** @type {{ method: string, path: string }[]} */
  requests = [];

  /** For `serve`. @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  answer = async (request, response) => {
    const { method, url, headers } = request;
    const { pathname, href } = new URL(url, `http://${headers.host}`);
    if (headers[FILE] !== undefined) return false;
    this.requests.push({ method, path: pathname });
    const found = [...this.routes].find(([pattern]) => pattern.test(pathname));
    if (found === undefined) return false;
    const file = async () => (await fetch(href, { headers: { [FILE]: '' } })).text();
    const { status = 200, type = 'text/plain', body } = await found[1](file);
    response.writeHead(status, { 'Content-Type': `${type}; charset=utf-8` });
    response.end(body);
    return true;
  };
}

/** A page and what it complained about. */
export class Visit {
  /** @param {Page} page @param {BrowserContext} context @param {string} url @param {RegExp[]} expected @param {Desk} [desk] */
  constructor(page, context, url, expected, desk = new Desk()) {
    this.page = page;
    this.context = context;
    this.url = url;
    /** Complaints that this page may have. Tests add to it what they provoke. */
    this.expected = [...engine.harmless, ...expected];
    this.desk = desk;
    /** @type {string[]} */
    this.messages = [];
    page.on('console', ({ type, text, address }) => {
      // Chromium reports WebGPU's validation errors as warnings.
      if (['error', 'warn'].includes(type)) this.messages.push(`${type}: ${text} (${address})`);
    });
    page.on('pageerror', (error) => this.messages.push(`uncaught: ${error.stack ?? error.message}`));
    page.on('crash', () => this.messages.push('the page crashed'));
  }

  /** Fails where the page complained of something unexpected since the last check. */
  check() {
    const bad = this.messages.filter((m) => !this.expected.some((e) => e.test(m)));
    this.messages.length = 0;
    assert.deepEqual(bad, [], 'the page complained');
  }

  /**
   * Waits until a function of the page is true. Polled from here: a strict policy forbids what the driver's own
   * waiting does in the page.
   * @param {(argument?: any) => unknown} condition
   * @param {{ timeout?: number, what?: string, argument?: unknown }} [options]
   */
  async until(condition, { timeout = PATIENCE, what = String(condition), argument } = {}) {
    const end = Date.now() + timeout;
    // A page that is on its way to another one is asked again there, where it gave no answer, too.
    const holds = () => {
      const answer = this.page.evaluate(condition, argument).catch((error) => {
        if (error instanceof Unreached && Date.now() < end) return false;
        throw error;
      });
      let timer;
      const silence = new Promise((done) => (timer = setTimeout(() => done(false), SILENCE)));
      return Promise.race([answer, silence]).finally(() => clearTimeout(timer));
    };
    while (!(await holds())) {
      if (Date.now() > end) {
        throw new Error(`waited ${timeout / 1000} s for: ${what}\n${this.messages.join('\n')}`);
      }
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** What was asked of the server since the page was opened. */
  get requests() {
    return this.desk.requests;
  }

  /**
   * Answers requests whose path fits in place of the server's file, of which `file` gives the text.
   * @param {RegExp} pattern @param {(file: () => Promise<string>) => Promise<Answer> | Answer} reply
   */
  route(pattern, reply) {
    this.desk.routes.set(pattern, reply);
  }
  /** @param {RegExp} pattern the same object */
  unroute(pattern) {
    this.desk.routes.delete(pattern);
  }

  /** Runs a function before the scripts of every document that is opened from now on, and of its workers. @param {() => void} script */
  async stub(script) {
    await this.context.addInitScript(script);
    // Scripts put before a page's own do not run in its workers; and not every file of such a name is one.
    const alone = `if (typeof document === 'undefined') (${script})();`;
    this.route(/\/worker(-[\w-]{8})?\.js$/, async (file) => ({ type: 'text/javascript', body: `${alone}\n${await file()}` }));
  }

  /** Waits for `data-ready` on the page's root. */
  async ready() {
    await this.until(() => document.documentElement.dataset.ready === 'true', { what: 'the page to be ready' });
  }

  /** Keeps a picture of the page for people to look at. No test asks for it, and it takes seconds: only where all is done. @param {string} name */
  async screenshot(name) {
    if (whole) await this.picture(name);
  }

  /** @param {string} name */
  async picture(name) {
    mkdirSync(ARTIFACTS, { recursive: true });
    await this.page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`), fullPage: true });
  }
}

/**
 * One server and one browser for all tests of a file.
 * @param {() => Record<string, string>} folders asked when the tests start, so that what is missing fails them by name
 * @param {{ policy?: string }} [options]
 */
export function site(folders, { policy = STRICT_POLICY } = {}) {
  /** @type {Promise<{ browser: Browser, server: Awaited<ReturnType<typeof serve>> }> | undefined} */
  let started;
  const desk = new Desk();
  // Started by the first test: hooks of a whole file do not wait for one another.
  const start = () => {
    started ??= (async () => {
      const server = await serve(folders(), { policy, answer: desk.answer });
      try {
        return { server, browser: await launch() };
      } catch (error) {
        await server.close();
        throw error;
      }
    })();
    return started;
  };
  /** Contexts of pages that are kept. @type {Set<BrowserContext>} */
  const contexts = new Set();
  after(async () => {
    const running = await started?.catch(() => undefined);
    for (const context of contexts) await context.close();
    await running?.browser.close();
    await running?.server.close();
  });

  /**
   * Opens a page in a context of its own. The caller closes the context.
   * @param {string} address
   * @param {{ webgpu?: boolean, serviceWorker?: boolean, share?: boolean, stub?: () => void, expected?: RegExp[], context?: Parameters<Browser['newContext']>[0] }} [options]
   * `share`: models of the page's thread have one device (`pages/share.mjs`); `stub` runs before all scripts (`Visit.stub`)
   */
  async function open(address, { webgpu = true, serviceWorker = false, share = false, stub, expected = [], context: settings = {} } = {}) {
    const { browser, server } = await start();
    const context = await browser.newContext({ ...settings, origin: server.url });
    // Pages are opened one after the other: what is answered and asked is the last one's.
    desk.routes.clear();
    desk.requests = [];
    if (!serviceWorker) await context.addInitScript(() => delete Navigator.prototype.serviceWorker);
    if (share) await context.addInitScript(shareDevice);
    const page = await context.newPage();
    const visit = new Visit(page, context, server.url, expected, desk);
    if (!webgpu) await visit.stub(withoutWebGpu);
    if (stub !== undefined) await visit.stub(stub);
    await page.goto(server.url + address);
    return visit;
  }

  /**
   * Opens a page, runs the body, checks for complaints and closes it; keeps a picture where the body fails.
   * @param {string} address
   * @param {Parameters<typeof open>[1]} options
   * @param {(visit: Visit) => Promise<void>} body
   */
  async function visit(address, options, body) {
    const opened = await open(address, options);
    try {
      await body(opened);
      opened.check();
    } catch (error) {
      await opened.picture(`failed-${engine.name}-${Date.now()}`).catch(() => undefined);
      throw error;
    } finally {
      await opened.context.close();
    }
  }

  /**
   * One page for all tests that are content with how others leave it: loading a model and compiling its pipelines takes longer than what
   * is done with it. Where a test fails the next one gets a new page.
   * @param {string} address @param {Parameters<typeof open>[1]} [options]
   * @returns {(body: (visit: Visit) => Promise<void>) => Promise<void>}
   */
  function kept(address, options) {
    /** @type {Visit | undefined} */
    let opened;
    return async (body) => {
      if (opened === undefined) {
        opened = await open(address, options);
        contexts.add(opened.context);
      }
      const { context, expected } = opened;
      // What a test provokes is no other's to have.
      opened.expected = [...expected];
      try {
        await body(opened);
        opened.check();
        opened.expected = expected;
      } catch (error) {
        await opened.picture(`failed-${engine.name}-${Date.now()}`).catch(() => undefined);
        opened = undefined;
        contexts.delete(context);
        await context.close();
        throw error;
      }
    };
  }

  return { open, visit, kept };
}

/** Opens a page of the library once. @param {string} address */
function libraryOnce(address) {
  const pages = site(libraryFolders);
  /** @type {Promise<Visit> | undefined} */
  let opened;
  return () => {
    opened ??= (async () => {
      const one = await pages.open(address);
      await one.ready();
      return one;
    })();
    return opened;
  };
}

/** The page of all files that share one, where one process runs several of them. @type {(() => Promise<Visit>) | undefined} */
let shared;
/** Files that asked for a page so far: each has its own model there. */
let askers = 0;

/**
 * One open page of the library for all tests of a file, so that its pipelines are compiled once.
 * @param {{ model?: string, share?: boolean }} [options] a fixture that is loaded as `window.model`; and whether all models of the page's
 * thread share a device (`pages/share.mjs`), where that is not what is tested
 */
export function libraryPage({ model, share = false } = {}) {
  const once = share ? (shared ??= libraryOnce('/pages/library.html?share')) : libraryOnce('/pages/library.html');
  const number = (askers += 1);
  const visit = async () => {
    const one = await once();
    await one.page.evaluate(
      async ([key, file]) => {
        const models = (globalThis.models ??= {});
        if (file !== null) models[key] ??= await globalThis.duet.Duet.load(`/fixtures/${file}`);
        globalThis.model = models[key];
      },
      [number, model ?? null],
    );
    return one;
  };
  return {
    visit,
    /**
     * Evaluates in the page, where `duet` is the library and `helpers` are the tests' own; then looks for complaints.
     * @param {(argument?: any) => any} body
     * @param {unknown} [argument]
     */
    async run(body, argument) {
      const one = await visit();
      const answer = await one.page.evaluate(body, argument);
      one.check();
      return answer;
    },
  };
}
