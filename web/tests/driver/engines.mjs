/**
 * The browsers that the tests run in. All that differs between them is said here: how they are started, what they call
 * themselves, what their device offers and what cannot be done there, each with its reason.
 */

import { existsSync } from 'node:fs';

/** Without a GPU, and with nothing that talks to the network by itself. */
const CHROMIUM = {
  browser: 'chrome',
  args: [
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
  ],
};

const FIREFOX = {
  browser: 'firefox',
  // The tests change preferences while the browser runs: the colour scheme is one.
  args: ['--remote-allow-system-access'],
  extraPrefsFirefox: {
    'dom.webgpu.enabled': true,
    'dom.webgpu.workers.enabled': true,
    'gfx.webgpu.ignore-blocklist': true,
    'gfx.webgpu.force-enabled': true,
    // The clipboard is read without a menu that asks.
    'dom.events.testing.asyncClipboard': true,
  },
};

/**
 * @typedef {object} Engine
 * @property {string} name
 * @property {string} title
 * @property {string} variable names another program
 * @property {string} package Debian's
 * @property {string[]} places where Debian and others put it
 * @property {object} launch what puppeteer is told
 * @property {RegExp[]} harmless what the browser says of itself and not of the page
 * @property {RegExp[]} lost what it says of a device that a test destroys while the page works with it
 * @property {RegExp} platform of reports
 * @property {number} rounding levels by which a transparent picture that went through a canvas may differ, once resized
 * @property {string[]} [short] beginnings of the files that are run where nothing is asked for; all but what is `left`, where there is no list
 * @property {Record<string, string>} left beginnings of the files that are left to `make slow-test`, and why
 * @property {{ subgroups?: string, heap?: string, drag?: string, files?: string, halves?: string }} lacks what is not there, and why
 */

/** @type {Record<string, Engine>} */
export const ENGINES = {
  chromium: {
    name: 'chromium',
    title: 'Chromium',
    variable: 'CHROMIUM',
    package: 'chromium',
    places: ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
    launch: CHROMIUM,
    harmless: [/powerPreference/, /Automatic fallback to software/],
    lost: [],
    platform: /Chrom/,
    rounding: 1,
    left: {
      'api-check': 'demo-check begins, stops and breaks checks, too, and each compiles a training step anew',
      'api-long': 'sixty calls in a row, and as many more',
      'api-recipe': 'a training is compiled by each page, and by the command; demo-new trains by a recipe, keeps and goes on',
      'demo-explain': 'chains for every class and for several answers take long; the walk of `demo` explains',
      'demo-models': 'six models compile one after the other; the walk of `demo` opens one',
      'demo-offline': 'the page is opened five times, and each time compiles its pipelines anew',
      outside: 'Node and Deno compile anew for each of six devices',
      readme: 'a page like the one of examples',
    },
    lacks: {},
  },
  firefox: {
    name: 'firefox',
    title: 'Firefox',
    variable: 'FIREFOX',
    package: 'firefox-esr',
    places: ['/usr/bin/firefox-esr', '/usr/bin/firefox'],
    launch: FIREFOX,
    harmless: [],
    lost: [/Parent device is lost/, /errors while creating shader module/],
    platform: /Firefox/,
    // Either browser's canvas is off by up to 0.996 levels, at other pixels each; a filter with lobes makes more of it, and of the
    // pictures of the test one comes to two levels here.
    rounding: 2,
    // What an engine can get wrong; the rest is the page's own logic, and `make slow-test` runs it here, too.
    short: ['driver', 'golden', 'parity', 'shaders', 'api.', 'demo.'],
    left: {},
    lacks: {
      subgroups: 'Firefox has no WebGPU subgroups',
      heap: 'Firefox does not tell a page how large its heap is',
      files: 'Firefox does not tell the driver of a file that it opens as a page',
      halves: 'Firefox has no ImageData of half-precise floats',
      drag: 'WebDriver BiDi has no command that drags files',
    },
  },
};

/** The browser's program. @param {Engine} engine */
export function program({ title, variable, package: debian, places }) {
  const named = process.env[variable];
  if (named !== undefined && named !== '') {
    if (!existsSync(named)) throw new Error(`$${variable} is ${named}, which does not exist; Debian's package is \`${debian}\``);
    return named;
  }
  const found = places.find((file) => existsSync(file));
  if (found === undefined) {
    throw new Error(`no ${title} found: install Debian's package \`${debian}\`, or set $${variable} to its path`);
  }
  return found;
}

/** Whether a file is run where nothing is asked for. @param {Engine} engine @param {string} file */
export function usual({ short, left }, file) {
  const begins = (/** @type {string[]} */ names) => names.some((name) => file.startsWith(name));
  return (short === undefined || begins(short)) && !begins(Object.keys(left));
}

/** @param {string} name */
export function engineOf(name) {
  const found = ENGINES[name];
  if (found === undefined) throw new Error(`no browser is called ${name}; there are: ${Object.keys(ENGINES).join(', ')}`);
  return found;
}

/** The browser that this process drives: of $DUET_BROWSER, which the runner sets, or Chromium. */
export const engine = engineOf(process.env.DUET_BROWSER || 'chromium');
