/**
 * Runs several files of tests in this process, one after the other: they share one page of the library (`libraryPage`), and what it has
 * compiled. `node --test-reporter=spec group.mjs FILE…`
 */

import path from 'node:path';
import { pathToFileURL } from 'node:url';

for (const file of process.argv.slice(2)) await import(pathToFileURL(path.resolve(file)).href);
