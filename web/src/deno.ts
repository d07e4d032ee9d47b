/**
 * The package in Deno: `index.ts` with files.
 * @module
 */
import { useHost } from './host.js';
import { deno } from './host-deno.js';

useHost(deno);

export * from './index.js';
