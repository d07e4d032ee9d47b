/**
 * The package in Node: `index.ts` with files, Node's threads and the WebGPU of the package `webgpu`.
 * @module
 */
import { useHost } from './host.js';
import { node } from './host-node.js';

useHost(node);

export * from './index.js';
