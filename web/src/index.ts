/**
 * Joint diffusion models in the browser, in Node and in Deno: classify, generate, explain by counterfactuals, train, measure how good a
 * model is, and check whether a device computes what it should.
 *
 * {@link Duet} runs on the page's thread, {@link DuetWorker} in a worker; both are a {@link DuetModel}.
 * @module
 */
export { Duet } from './duet.js';
export { DuetWorker, type WorkerChoice, type WorkerCreateOptions, type WorkerLoadOptions } from './worker-client.js';
export {
  AbortedError,
  BadCheckpointError,
  BadInputError,
  DeviceLostError,
  DuetError,
  LimitTooSmallError,
  NoAdapterError,
  NoWebGpuError,
  OutOfMemoryError,
  type DuetErrorCode,
} from './errors.js';
export type { AnyWorker, NodeWorker } from './host.js';
export { findClass } from './options.js';
export { readPicture } from './pixels.js';
export { readRecipe } from './recipe.js';
export { trainings, type KeptTraining } from './trainings.js';
export type * from './types.js';
export type * from './types-check.js';
export type * from './types-evaluate.js';
export type * from './types-train.js';
