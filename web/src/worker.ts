/**
 * The worker behind {@link DuetWorker} in browsers.
 * @module
 */
import { ownThread } from './host-browser.js';
import { serve } from './worker-server.js';

serve(ownThread());
