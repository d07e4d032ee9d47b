/**
 * Where things are, and what to run where they are not.
 */

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '../..');

export const TESTS = here;
export const PAGES = path.join(here, 'pages');
export const ARTIFACTS = path.join(here, 'artifacts');
export const DIST = path.resolve(here, '../dist');
export const DEMO = path.resolve(here, '../demo/dist');
export const EXAMPLES = path.resolve(here, '../examples');
export const README = path.resolve(here, '../README.md');
export const WGSL = path.join(root, 'wgsl');
export const GOLDEN = path.join(root, 'tests/fixtures');
export const FIXTURES = path.join(root, 'target/web-fixtures');

/** A file written by the native tests. @param {string} name */
export function fixture(name) {
  const file = path.join(FIXTURES, name);
  if (!existsSync(file)) {
    throw new Error(`target/web-fixtures/${name} is missing: run \`make web-fixtures\` in the repository`);
  }
  return file;
}

/** The native command. */
export function command() {
  const file = path.join(root, 'target/release/duet');
  if (!existsSync(file)) throw new Error('target/release/duet is missing: run `cargo build --release --workspace` in the repository');
  return file;
}

/** The built library. */
export function dist() {
  if (!existsSync(path.join(DIST, 'index.js'))) {
    throw new Error('web/dist is missing: run `npm run build` in the folder web');
  }
  return DIST;
}

/** The built demo. */
export function demo() {
  if (!existsSync(path.join(DEMO, 'index.html'))) {
    throw new Error('web/demo/dist is missing: run `npm run build` and `npm run demo` in the folder web');
  }
  return DEMO;
}

/** Names of the shaders without their ending. */
export function shaders() {
  const files = readdirSync(WGSL).map(String);
  return files.filter((f) => f.endsWith('.wgsl')).map((f) => f.slice(0, -'.wgsl'.length));
}
