/**
 * A page of a browser and the context it is in: puppeteer's, with what tests need in the same words for every engine.
 */

import { EventEmitter } from 'node:events';
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { runInThisContext } from 'node:vm';
import { Locator } from './locator.mjs';
import { call } from './wire.mjs';

/** Milliseconds that a file may take to arrive. */
const DOWNLOAD = 30_000;
/** Milliseconds after which a file keeps the name that it has. */
const SETTLED = 500;

/**
 * Emits `console` with `{ type, text, address }`, `pageerror` with an error, `crash`, and `request` with puppeteer's request.
 */
export class Page extends EventEmitter {
  /** @param {import('puppeteer-core').Page} tab @param {Context} context */
  constructor(tab, context) {
    super();
    this.tab = tab;
    this.context = context;
    this.mouse = tab.mouse;
    /** Milliseconds that an element is waited for. */
    this.patience = 30_000;
    context.habits.listen(context.inner.browser(), tab, (message) => this.emit('console', message));
    tab.on('pageerror', (error) => this.emit('pageerror', error));
    tab.on('error', () => this.emit('crash'));
    tab.on('request', (request) => this.emit('request', request));
  }

  keyboard = {
    /** Presses a key, or several at once: `Shift+Tab`. @param {string} keys */
    press: async (keys) => {
      const { keyboard } = this.tab;
      const held = keys.split('+');
      const last = /** @type {import('puppeteer-core').KeyInput} */ (held.pop());
      for (const key of held) await keyboard.down(/** @type {import('puppeteer-core').KeyInput} */ (key));
      await keyboard.press(last);
      for (const key of held) await keyboard.up(/** @type {import('puppeteer-core').KeyInput} */ (key));
    },
  };

  /** @param {string} url */
  goto = (url) => this.tab.goto(url);
  reload = () => this.tab.reload();
  url = () => this.tab.url();
  title = () => this.tab.title();
  close = () => this.tab.close();
  /** @param {number} milliseconds */
  waitForTimeout = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  /** @param {{ path: string, fullPage?: boolean }} options */
  screenshot = (options) => this.tab.screenshot(options);
  /** @param {{ width: number, height: number }} size */
  setViewportSize = (size) => this.tab.setViewport(size);
  /** @param {{ colorScheme: 'light' | 'dark', reducedMotion?: 'reduce' | 'no-preference' }} media */
  emulateMedia = ({ colorScheme, reducedMotion }) => this.context.paint(this.tab, colorScheme, reducedMotion);

  /** Runs a function in the page. @param {Function} body @param {unknown} [argument] */
  evaluate = (body, argument) => call(this.tab, body, argument);
  /** Runs a function in the page on handles. @param {Function} body @param {unknown} argument @param {unknown[]} handles */
  call = (body, argument, handles) => call(this.tab, body, argument, handles);
  /**
   * Runs a function before each document's own scripts, from the next document on; not in the blank one that Firefox has on the
   * way, which is not secure and so has no WebGPU to change.
   * @param {() => void} script
   */
  addInitScript = (script) => this.tab.evaluateOnNewDocument(runInThisContext(`() => {
    if (isSecureContext) (${script})();
  }`));

  /** @param {string} selector */
  locator = (selector) => new Locator(this, [['css', selector]]);
  /** By what screen readers are told, in whole. @param {string} role @param {{ name: string }} words */
  getByRole = (role, { name }) => new Locator(this, [], `::-p-aria([name="${name}"][role="${role}"])`);
  /** A field: groups may be called like it. @param {string} name */
  getByLabel = (name) => new Locator(this, [['is', 'input, select, textarea']], `::-p-aria([name="${name}"])`);

  /** What is to be done once the context closes. @param {() => void} action */
  later = (action) => this.context.later(action);
  /** The file that an action downloads. @param {() => Promise<unknown>} action @returns {Promise<{ name: string, path: string }>} */
  download = (action) => this.context.download(action);
}

/** Pages that share a profile of their own, which nothing is left of. */
export class Context {
  /**
   * @param {import('puppeteer-core').BrowserContext} inner
   * @param {string} folder where downloads go
   * @param {import('./habits.mjs').Habits} habits
   * @param {{ viewport: { width: number, height: number }, colorScheme: 'light' | 'dark' }} looks of new pages
   */
  constructor(inner, folder, habits, looks) {
    this.inner = inner;
    this.folder = folder;
    this.habits = habits;
    this.looks = looks;
    /** @type {Page[]} */
    this.pages = [];
    /** @type {(() => void)[]} */
    this.scripts = [];
    /** @type {(() => void)[]} */
    this.ends = [];
    this.downloads = 0;
  }

  async newPage() {
    const tab = await this.inner.newPage();
    await tab.setViewport(this.looks.viewport);
    await this.paint(tab, this.looks.colorScheme);
    await this.habits.focus(tab);
    const page = new Page(tab, this);
    for (const script of this.scripts) await page.addInitScript(script);
    this.pages.push(page);
    return page;
  }

  /** Sets what style sheets are told of the preferred colours. @param {import('puppeteer-core').Page} tab @param {'light' | 'dark'} scheme */
  paint = (tab, scheme, motion = 'no-preference') => this.habits.paint(this.inner.browser(), tab, scheme, motion);

  /** Runs a function before the scripts of every document from now on. @param {() => void} script */
  async addInitScript(script) {
    this.scripts.push(script);
    for (const page of this.pages) await page.addInitScript(script);
  }

  /** @param {boolean} offline */
  async setOffline(offline) {
    for (const { tab } of this.pages) if (!tab.isClosed()) await tab.setOfflineMode(offline);
  }

  /** @param {() => void} action */
  later(action) {
    this.ends.push(action);
  }

  /** @param {() => Promise<unknown>} action */
  async download(action) {
    await action();
    const end = Date.now() + DOWNLOAD;
    for (let [seen, since] = ['', 0]; ; ) {
      const files = readdirSync(this.folder, { withFileTypes: true }).filter((one) => one.isFile());
      const names = files.map(({ name }) => name);
      if (names.join() !== seen) [seen, since] = [names.join(), Date.now()];
      // A file that still grows has another beside it, or a name that is not its last one; some browsers make that up without an ending.
      const last = names.length === 1 && !/\.(part|crdownload|tmp)$/.test(names[0]);
      if (last && Date.now() - since >= SETTLED) {
        // Out of the way, so that the next one of the name has it, too.
        this.downloads += 1;
        const kept = path.join(this.folder, String(this.downloads));
        mkdirSync(kept);
        renameSync(path.join(this.folder, names[0]), path.join(kept, names[0]));
        return { name: names[0], path: path.join(kept, names[0]) };
      }
      if (Date.now() > end) throw new Error(`waited ${DOWNLOAD / 1000} s for a download; there are: ${names.join(', ')}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async close() {
    await this.inner.close();
    rmSync(this.folder, { recursive: true, force: true });
    for (const end of this.ends) end();
  }
}
