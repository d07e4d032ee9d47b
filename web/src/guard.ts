/**
 * Failures of the WebAssembly module itself. Whatever is thrown through it, a panic of its own or an exception of a
 * browser's function that it called, settles no promise: the call would wait for ever, and the object it was made on
 * stays borrowed. It is caught where the module's tasks run (`glue.ts`) or, in its listeners, as the uncaught exception that the
 * browser reports, and given to the calls under way.
 * @module
 */
import { DuetError, messageOf } from './errors.js';

/** The calls under way, each with what ends it. */
const underWay = new Set<(error: DuetError) => void>();
/** What the module said last before it stopped. */
let said: string | undefined;

/** Hears of the module's panics: what the browser throws for them says only "unreachable". */
export function panicked(words: string): void {
  said = words;
}

/** The error of what was thrown through the module. */
export function failureOf(error: unknown): DuetError {
  const words = error instanceof WebAssembly.RuntimeError ? (said ?? error.message) : messageOf(error);
  // The stack is for whoever looks into the cause.
  const short = words.split('\n').filter((line) => !/^\s+at /.test(line));
  return new DuetError('internal', `the module failed and this model cannot go on: ${short.join(' ')}`, { cause: error });
}

/** Hears of what was thrown through the module; answers whether anybody waits who is told. */
export function failed(error: unknown): boolean {
  const waiting = [...underWay];
  const failure = failureOf(error);
  for (const end of waiting) end(failure);
  return waiting.length > 0;
}

function onError(event: ErrorEvent): void {
  const error: unknown = event.error;
  if (!(error instanceof Error && /duet_web|wasm-function/.test(error.stack ?? ''))) return;
  // The callers hear of it: nobody else needs to.
  if (failed(error)) event.preventDefault();
}

/** The outcome of a call into the module; `broken` hears of it where the module fails in it. */
export async function guarded<T>(call: () => Promise<T>, broken?: (error: DuetError) => void): Promise<T> {
  let end!: (error: DuetError) => void;
  const failed = new Promise<never>((_, reject) => {
    end = (error) => {
      broken?.(error);
      reject(error);
    };
  });
  // Node has no such event.
  if (underWay.size === 0) globalThis.addEventListener?.('error', onError as EventListener);
  underWay.add(end);
  try {
    return await Promise.race([call(), failed]);
  } finally {
    underWay.delete(end);
    if (underWay.size === 0) globalThis.removeEventListener?.('error', onError as EventListener);
  }
}

/** Numbers that the module made, once none of them is NaN or infinite: no such number is ever shown as an answer. */
export function finite(what: string, values: Float32Array): Float32Array {
  if (values.every(Number.isFinite)) return values;
  throw new DuetError('not-finite', `${what}: not every number is finite: the model or an option is out of range`);
}
