/**
 * Starts the engine that is tested.
 */

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import puppeteer from 'puppeteer-core';
import { engine, program } from './engines.mjs';
import { HABITS } from './habits.mjs';
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
    const habits = HABITS[engine.name];
    if (permissions.length > 0) await habits.grant(inner, origin, permissions);
    return new Context(inner, folder, habits, { viewport, colorScheme });
  }
}

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
