/**
 * The worker behind {@link DuetWorker} in Node.
 * @module
 */
import { parentPort } from 'node:worker_threads';
import { useHost } from './host.js';
import { node } from './host-node.js';
import { serve } from './worker-server.js';

useHost(node);
serve({
  post: (message) => parentPort!.postMessage(message),
  listen: (message) => void parentPort!.on('message', message),
  close: () => parentPort!.close(),
});
