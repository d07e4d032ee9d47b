/**
 * Node. It has no WebGPU of its own; the npm package `webgpu` has (Dawn, as in Chrome), and is used where it is installed.
 * @module
 */
import { Worker } from 'node:worker_threads';
import { NoWebGpuError, messageOf } from './errors.js';
import type { Host, NodeWorker, Port } from './host.js';
import { navigatorGpu } from './host-browser.js';
import { absolute, read } from './host-files.js';
import type { Request } from './protocol.js';

/** What is used of the package `webgpu`. */
interface Dawn {
  create(options: string[]): GPU;
}

/** A variable, for bundlers would want a package that need not be there. */
const DAWN = 'webgpu';

function workerPort(worker: NodeWorker): Port {
  return {
    post: (message) => worker.postMessage(message),
    listen(on) {
      let heard = true;
      const hear =
        <T>(tell: (value: T) => void) =>
        (value: T): void => {
          if (heard) tell(value);
        };
      worker.on('message', hear(on.message));
      // Whoever ended the worker wants to hear of no failure, and one without a listener would end the program.
      worker.on('error', hear((error) => on.failure(messageOf(error))));
      worker.on('messageerror', hear((error) => on.failure(`a message could not be read: ${messageOf(error)}`)));
      worker.on('exit', hear((code) => on.failure(`it ended with code ${code}`)));
      return () => (heard = false);
    },
    // A thread that is terminated while Dawn works there takes the program with it.
    end: () => worker.postMessage({ end: true } satisfies Request),
  };
}

export const node: Host = {
  absolute,
  read,
  imageData: false,
  async gpu() {
    const there = navigatorGpu();
    if (there) return there;
    let dawn: Dawn;
    try {
      dawn = (await import(/* @vite-ignore */ /* webpackIgnore: true */ DAWN)) as Dawn;
    } catch (error) {
      throw new NoWebGpuError(
        'Node has no WebGPU of its own: `npm install webgpu`, which is then used by itself; or give load a `device` of ' +
          "any WebGPU that you have, as of import { create } from 'webgpu': " +
          `await (await create([]).requestAdapter()).requestDevice() (${messageOf(error)})`,
      );
    }
    return dawn.create([]);
  },
  start: () => workerPort(new Worker(new URL('./worker-node.js', import.meta.url))),
  adopt: (worker) => workerPort(worker as NodeWorker),
  name: () => `Node.js ${process.version} (${process.platform} ${process.arch})`,
};
