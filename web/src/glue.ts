/**
 * What the module's generated JavaScript uses in place of the globals of the same names (`web/bindgen` puts the import there).
 * @module
 */
import { failed } from './guard.js';

/** Rust's asynchronous code runs in such tasks: what is thrown in one would be heard of by nobody who waits. */
export function queueMicrotask(task: () => void): void {
  globalThis.queueMicrotask(() => {
    try {
      task();
    } catch (error) {
      if (!failed(error)) throw error;
    }
  });
}

/**
 * A class of errors, told by its name: in Node the package `webgpu` puts its classes nowhere. It stands at the right of
 * `instanceof` only.
 */
function called(name: string): { [Symbol.hasInstance](value: unknown): boolean } {
  return {
    [Symbol.hasInstance]: (value) => (value as object | null | undefined)?.constructor?.name === name,
  };
}

export const GPUValidationError = called('GPUValidationError');
export const GPUOutOfMemoryError = called('GPUOutOfMemoryError');
