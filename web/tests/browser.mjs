/**
 * Chromium with WebGPU for the tests of one file: pages served from this machine, with everything that a page complains
 * about on its console collected and held against it.
 */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import { chromium as playwright } from 'playwright-core';
import { STRICT_POLICY, serve } from '../scripts/serve.mjs';
import { ARTIFACTS, FIXTURES, PAGES, TESTS, chromium, dist, fixture } from './paths.mjs';

/** Starting a browser, loading a page and compiling a model's pipelines on a software device. */
export const SLOW = 180_000;

/** Milliseconds for which nothing else of the page may run: usually, and once. A step of an explanation takes 100. */
const GAPS = { usual: 50, longest: 1000 };

/** The page went on running meanwhile. @param {{usual: number, longest: number}} gaps of the helper `timerGaps` */
export function assertResponsive(gaps) {
  console.log('gaps of a 10 ms timer:', gaps);
  assert.ok(gaps.usual <= GAPS.usual, `again and again nothing else ran for ${gaps.usual.toFixed(0)} ms`);
  assert.ok(gaps.longest <= GAPS.longest, `nothing else ran for ${gaps.longest.toFixed(0)} ms`);
}

/** WebGPU without a GPU, and nothing that talks to the network by itself. */
const FLAGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  // Web pages see how much memory they use, which the test of growth wants to know.
  '--enable-precise-memory-info',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** What Chromium says of itself and not of the page. */
const HARMLESS = [/powerPreference/, /Automatic fallback to software/];

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {import('playwright-core').BrowserContext} BrowserContext */

/** Starts Chromium with a fresh profile. */
export function launch() {
  return playwright.launch({ executablePath: chromium(), headless: true, args: FLAGS });
}

/** The folders of a test page: the library, fixtures, pages and the tests' own modules. */
export function libraryFolders() {
  fixture('tiny.safetensors');
  return { '/dist/': dist(), '/fixtures/': FIXTURES, '/pages/': PAGES, '/tests/': TESTS };
}

/** Makes a context's browser one without WebGPU. @param {BrowserContext} context */
async function withoutWebGpu(context) {
  const remove = () => {
    Object.defineProperty(Object.getPrototypeOf(navigator), 'gpu', { get: () => undefined, configurable: true });
  };
  await context.addInitScript(remove);
  // Scripts put before a page's own do not run in its workers.
  await context.route(/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `(${remove})();\n${await response.text()}` });
  });
}

/** A page and what it complained about. */
export class Visit {
  /** @param {Page} page @param {BrowserContext} context @param {string} url @param {RegExp[]} expected */
  constructor(page, context, url, expected) {
    this.page = page;
    this.context = context;
    this.url = url;
    /** Complaints that this page may have. Tests add to it what they provoke. */
    this.expected = [...HARMLESS, ...expected];
    /** @type {string[]} */
    this.messages = [];
    page.on('console', (message) => {
      // Chromium reports WebGPU's validation errors as warnings.
      if (['error', 'warning'].includes(message.type())) {
        this.messages.push(`${message.type()}: ${message.text()} (${message.location().url})`);
      }
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
  async until(condition, { timeout = SLOW, what = String(condition), argument } = {}) {
    const end = Date.now() + timeout;
    while (!(await this.page.evaluate(condition, argument))) {
      if (Date.now() > end) {
        throw new Error(`waited ${timeout / 1000} s for: ${what}\n${this.messages.join('\n')}`);
      }
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** Waits for `data-ready` on the page's root. */
  async ready() {
    await this.until(() => document.documentElement.dataset.ready === 'true', { what: 'the page to be ready' });
  }

  /** Keeps a picture of the page. @param {string} name */
  async screenshot(name) {
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
  /** @type {Promise<{ browser: import('playwright-core').Browser, server: Awaited<ReturnType<typeof serve>> }> | undefined} */
  let started;
  // Started by the first test: hooks of a whole file do not wait for one another.
  const start = () => {
    started ??= (async () => {
      const server = await serve(folders(), { policy });
      try {
        return { server, browser: await launch() };
      } catch (error) {
        await server.close();
        throw error;
      }
    })();
    return started;
  };
  after(async () => {
    const running = await started?.catch(() => undefined);
    await running?.browser.close();
    await running?.server.close();
  });

  /**
   * Opens a page in a context of its own. The caller closes the context.
   * @param {string} address
   * @param {{ webgpu?: boolean, serviceWorker?: boolean, expected?: RegExp[], context?: import('playwright-core').BrowserContextOptions }} [options]
   */
  async function open(address, { webgpu = true, serviceWorker = false, expected = [], context: settings = {} } = {}) {
    const { browser, server } = await start();
    const context = await browser.newContext(settings);
    if (!webgpu) await withoutWebGpu(context);
    if (!serviceWorker) await context.addInitScript(() => delete Navigator.prototype.serviceWorker);
    const page = await context.newPage();
    const visit = new Visit(page, context, server.url, expected);
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
      await opened.screenshot(`failed-${Date.now()}`).catch(() => undefined);
      throw error;
    } finally {
      await opened.context.close();
    }
  }

  return { open, visit };
}

/**
 * One open page of the library for all tests of a file, so that its pipelines are compiled once.
 * @param {{ model?: string }} [options] a fixture that is loaded as `window.model`
 */
export function libraryPage({ model } = {}) {
  const pages = site(libraryFolders);
  /** @type {Promise<Visit> | undefined} */
  let opened;
  const visit = () => {
    opened ??= (async () => {
      const one = await pages.open('/pages/library.html');
      await one.ready();
      if (model !== undefined) {
        await one.page.evaluate(async (address) => {
          globalThis.model = await globalThis.duet.Duet.load(address);
        }, `/fixtures/${model}`);
      }
      return one;
    })();
    return opened;
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
