// The package as it is published, without any bundler: the browser's own module loader must be enough.
import * as duet from '/dist/index.js';
import * as helpers from './helpers.mjs';
import { shareDevice } from './share.mjs';

if (location.search === '?share') shareDevice();
Object.assign(globalThis, { duet, helpers });
document.documentElement.dataset.ready = 'true';
