/**
 * Starts the engine that is tested.
 */

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import puppeteer from 'puppeteer-core';
import { engine, program } from './engines.mjs';
import { Context } from './page.mjs';

const VIEWPORT = { width: 1280, height: 720 };
/** Milliseconds that one command may take: an evaluation in a page takes as long as what it waits for. */
const COMMAND = 30 * 60_000;

export class Browser {
  /** @param {import('puppeteer-core').Browser} inner @param {string} version */
  constructor(inner, version) {
    this.inner = inner;
    this.number = version;
  }

  /** Its version alone: `156.0.8078.79`. */
  version = () => this.number;
  close = () => this.inner.close();

  /**
   * A profile of its own.
   * @param {{ viewport?: { width: number, height: number }, colorScheme?: 'light' | 'dark', permissions?: string[], origin?: string }} [options]
   * `permissions` are of pages at `origin`
   */
  async newContext({ viewport = VIEWPORT, colorScheme = 'light', permissions = [], origin } = {}) {
    const folder = mkdtempSync(path.join(tmpdir(), 'duet-downloads-'));
    const inner = await this.inner.createBrowserContext({ downloadBehavior: { policy: 'allow', downloadPath: folder } });
    if (permissions.length > 0) await HABITS[engine.name].grant(inner, origin, permissions);
    const paint = (tab, scheme) => HABITS[engine.name].paint(this.inner, tab, scheme);
    const prepare = async (tab) => {
      await tab.setViewport(viewport);
      await paint(tab, colorScheme);
      await HABITS[engine.name].focus(tab);
    };
    return new Context(inner, folder, prepare, paint);
  }
}

/** What each engine has ways of its own for. */
const HABITS = {
  chromium: {
    grant: (context, origin, permissions) =>
      context.overridePermissions(origin, permissions.map((one) => (one === 'clipboard-write' ? 'clipboard-sanitized-write' : one))),
    paint: (_, tab, value) => tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]),
    // A page behind another one runs on as if it were in front.
    focus: (tab) => tab.emulateFocusedPage(true),
  },
  firefox: {
    // Given by a preference at the start.
    grant: async () => undefined,
    /** WebDriver BiDi has no command for it: a script of the browser's own sets the preference, of all its pages. */
    async paint({ connection }, _, scheme) {
      const { result } = await connection.send('browsingContext.getTree', { 'moz:scope': 'chrome' });
      const value = { dark: 0, light: 1 }[scheme];
      const expression = `Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', ${value})`;
      await connection.send('script.evaluate', { expression, target: { context: result.contexts[0].context }, awaitPromise: false });
    },
    focus: async () => undefined,
  },
};

/** Starts the browser with a fresh profile. */
export async function launch() {
  const inner = await puppeteer.launch({
    ...engine.launch,
    executablePath: program(engine),
    headless: true,
    defaultViewport: null,
    protocolTimeout: COMMAND,
    timeout: 120_000,
  });
  return new Browser(inner, (await inner.version()).replace(/^.*\//, ''));
}
