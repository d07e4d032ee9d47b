/**
 * What the parts of a model on this thread share.
 * @module
 */
import type { DuetError } from './errors.js';
import type { Engine } from './module.js';
import type { ModelInfo } from './types.js';

/** A model from inside, for work that has a file of its own. */
export interface Inner {
  readonly engine: Engine;
  readonly info: ModelInfo;
  /** Runs a call when all earlier ones have ended. */
  queued<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T>;
  /** Whether the caller wants no more of a call, or the model goes. */
  stopped(signal: AbortSignal | undefined): boolean;
  /** What the module failed of. */
  cause(error: unknown): Promise<DuetError>;
  /** Opens a new device in place of one of our own that was lost. */
  reopen(lost: DuetError): Promise<void>;
  /** What is known of the model has changed. */
  changed(): void;
}

/** An error of the caller's own functions, on its way back to the caller. */
export class Thrown {
  constructor(readonly error: unknown) {}
}

/** Arrays one after the other. */
export function joined(parts: Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** `count` equal parts. */
export function split(values: Float32Array, count: number): Float32Array[] {
  const size = values.length / count;
  return Array.from({ length: count }, (_, i) => values.slice(i * size, (i + 1) * size));
}
