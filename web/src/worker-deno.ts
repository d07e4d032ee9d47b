/**
 * The worker behind {@link DuetWorker} in Deno.
 * @module
 */
import { useHost } from './host.js';
import { ownThread } from './host-browser.js';
import { deno } from './host-deno.js';
import { serve } from './worker-server.js';

useHost(deno);
serve({ ...ownThread(), close: () => globalThis.close() });
