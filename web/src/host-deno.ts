/**
 * Deno: a browser without a page, whose addresses are files, too.
 * @module
 */
import { NoWebGpuError } from './errors.js';
import type { Host } from './host.js';
import { browser, navigatorGpu, workerPort } from './host-browser.js';
import { absolute, read } from './host-files.js';

export const deno: Host = {
  ...browser,
  absolute,
  read,
  imageData: false,
  start() {
    const worker = new Worker(new URL('./worker-deno.js', import.meta.url), { type: 'module' });
    const port = workerPort(worker, `${new URL('./worker-deno.js', import.meta.url).href} cannot run`);
    // As in Node: a thread that is terminated while the GPU works for it may take the program with it.
    return { ...port, end: () => port.post({ end: true }) };
  },
  gpu() {
    const gpu = navigatorGpu();
    if (gpu) return gpu;
    throw new NoWebGpuError('this Deno has no WebGPU: run it with --unstable-webgpu, or give load a `device`');
  },
};
