/**
 * Browsers.
 * @module
 */
import { DuetError, NoWebGpuError, messageOf } from './errors.js';
import type { AnyWorker, Client, Host, Port } from './host.js';
import type { Request, Response } from './protocol.js';

/** A browser's worker. */
export function workerPort(worker: Worker, missing: string): Port {
  return {
    post: (message) => worker.postMessage(message),
    listen(on) {
      /** Whether the worker's program runs: one that is not there fails without a word. */
      let heard = false;
      const message = ({ data }: MessageEvent<Response>): void => {
        heard = true;
        on.message(data);
      };
      const failure = (event: Event): void => {
        // The caller hears of it: Deno would end the program.
        event.preventDefault();
        on.failure((event as ErrorEvent).message || (heard ? '' : missing));
      };
      const unread = (): void => on.failure('a message could not be read');
      worker.addEventListener('message', message);
      worker.addEventListener('error', failure);
      worker.addEventListener('messageerror', unread);
      return () => {
        worker.removeEventListener('message', message);
        worker.removeEventListener('error', failure);
        worker.removeEventListener('messageerror', unread);
      };
    },
    end: () => worker.terminate(),
  };
}

/** This thread, of a worker, and who started it. */
export function ownThread(): Client {
  return {
    post: (message) => (globalThis as unknown as Worker).postMessage(message),
    listen: (message) => globalThis.addEventListener('message', ({ data }: MessageEvent<Request>) => message(data)),
  };
}

/** What to do where the worker's file is not there. */
const NO_WORKER =
  "the package's dist/worker.js is not there, or cannot run. A bundler that sees no workers by itself (esbuild) must make a file " +
  'worker.js, beside the bundle, of duet-diffusion/worker; or start a worker yourself and give it as `worker`';

/** Where this is WebGPU's place. */
export function navigatorGpu(): GPU | undefined {
  return (globalThis.navigator as Navigator | undefined)?.gpu;
}

export const browser: Host = {
  gpu() {
    const gpu = navigatorGpu();
    if (gpu) return gpu;
    throw new NoWebGpuError(
      globalThis.isSecureContext === false
        ? 'WebGPU needs a secure page: https, or localhost'
        : 'this browser has no WebGPU: Chrome and Edge have it from version 113, Safari from 26, Firefox from 141',
    );
  },
  absolute(address) {
    try {
      return new URL(address, (globalThis.location as Location | undefined)?.href).href;
    } catch {
      throw new DuetError('network', `${String(address)} is no address`);
    }
  },
  read: () => undefined,
  imageData: true,
  start() {
    try {
      // Written so, bundlers see it and make a file of the worker.
      const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
      return workerPort(worker, NO_WORKER);
    } catch (error) {
      throw new DuetError('network', `the worker could not be started: ${NO_WORKER} (${messageOf(error)})`, { cause: error });
    }
  },
  adopt: (worker: AnyWorker) => workerPort(worker as Worker, 'the worker given does not run duet-diffusion/worker'),
  name: () => navigator.userAgent,
};
