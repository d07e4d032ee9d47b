/**
 * The WebAssembly module, its errors, and the checkpoints it reads.
 * @module
 */
import init, { DeviceCheck, Engine, initSync, onPanic, oppositeGround, pictureValues } from './wasm/duet_web.js';
import { AbortedError, DuetError, messageOf, type PlainError, typedError } from './errors.js';
import { panicked } from './guard.js';
import { checkSignal } from './options.js';
import type { CheckpointSource, LoadOptions } from './types.js';

export { DeviceCheck, Engine, oppositeGround, pictureValues };

let started: Promise<{ memory: WebAssembly.Memory }> | undefined;

async function instantiate(source: LoadOptions['wasm']): Promise<{ memory: WebAssembly.Memory }> {
  if (source instanceof WebAssembly.Module) return initSync({ module: source });
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    return initSync({ module: await WebAssembly.compile(source as BufferSource) });
  }
  return source === undefined ? init() : init({ module_or_path: source });
}

/** Starts the module, once for all models of a page or worker. */
export async function startModule(source: LoadOptions['wasm']): Promise<{ memory: WebAssembly.Memory }> {
  started ??= (async () => {
    const module = await instantiate(source);
    // Once: a module that has panicked takes no other listener.
    onPanic(panicked);
    return module;
  })();
  try {
    return await started;
  } catch (error) {
    // The next call may have better luck with the network.
    started = undefined;
    throw new DuetError('network', `the WebAssembly module could not be loaded: ${messageOf(error)}`, { cause: error });
  }
}

/** The typed error of whatever the module threw. */
export function fromModule(error: unknown): DuetError {
  if (error instanceof DuetError) return error;
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    return typedError(error as PlainError);
  }
  // Neither the module's errors nor the browser's of the GPU look so: it is a fault of this package.
  return new DuetError('internal', messageOf(error), { cause: error });
}

/** The bytes of a checkpoint and a name for errors. */
export async function fetchCheckpoint(
  source: CheckpointSource,
  { onProgress, signal }: LoadOptions,
): Promise<{ bytes: Uint8Array; name: string }> {
  checkSignal(signal);
  if (source instanceof Uint8Array) return { bytes: source, name: 'of the bytes given' };
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source), name: 'of the bytes given' };
  if (source instanceof Blob) {
    const name = 'name' in source && typeof source.name === 'string' ? source.name : 'checkpoint';
    const bytes = new Uint8Array(await source.arrayBuffer());
    onProgress?.(bytes.length, bytes.length);
    return { bytes, name };
  }
  const name = String(source);
  let response: Response;
  try {
    response = await fetch(source, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw new AbortedError();
    throw new DuetError('network', `${name} could not be fetched: ${messageOf(error)}`, { cause: error });
  }
  if (!response.ok) throw new DuetError('network', `${name} could not be fetched: status ${response.status}`);
  return { bytes: await body(response, name, onProgress, signal), name };
}

/** A response's bytes, with progress. */
async function body(
  response: Response,
  name: string,
  onProgress: LoadOptions['onProgress'],
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const announced = Number(response.headers.get('content-length'));
  // A packed body is longer than announced.
  const total = announced > 0 && !response.headers.get('content-encoding') ? announced : undefined;
  const unbroken = async <T>(part: Promise<T>): Promise<T> => {
    try {
      return await part;
    } catch (error) {
      if (signal?.aborted) throw new AbortedError();
      throw new DuetError('network', `${name}: the download broke off: ${messageOf(error)}`, { cause: error });
    }
  };
  if (!response.body) return new Uint8Array(await unbroken(response.arrayBuffer()));
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await unbroken(reader.read());
    if (done) break;
    parts.push(value);
    length += value.length;
    // What it throws is the caller's own, and no fault of the network.
    onProgress?.(length, total);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
