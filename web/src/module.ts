/**
 * The WebAssembly module, its errors, and the checkpoints it reads.
 * @module
 */
import init, { DeviceCheck, Engine, onPanic, oppositeGround, pictureValues } from './wasm/duet_web.js';
import { AbortedError, DuetError, messageOf, type PlainError, typedError } from './errors.js';
import { failureOf, panicked } from './guard.js';
import { host } from './host.js';
import { checkSignal } from './options.js';
import type { CheckpointSource, LoadOptions } from './types.js';

export { DeviceCheck, Engine, oppositeGround, pictureValues };

let started: Promise<{ memory: WebAssembly.Memory }> | undefined;

/** The module's file beside this one; bundlers see it by this very form of words. */
function ownFile(): URL {
  try {
    return new URL('./wasm/duet_web_bg.wasm', import.meta.url);
  } catch {
    throw new Error(`this bundle does not know its own address (build it as an ES module), so the package's ${FILE} is not found`);
  }
}

/** The module's file in the package. */
const FILE = 'dist/wasm/duet_web_bg.wasm';

/** What to do where the module's file is not there. */
const WITHOUT = `It is the package's ${FILE}: serve it there, or give load its address or bytes as \`wasm\``;

/** The module, compiled. */
async function compiled(source: LoadOptions['wasm']): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return WebAssembly.compile(source as BufferSource);
  const address = host().absolute(source ?? ownFile());
  const local = host().read(address);
  if (local) {
    const bytes = await local.catch((error: unknown) => {
      throw new Error(`${messageOf(error)}. ${WITHOUT}`, { cause: error });
    });
    return WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
  }
  let response: Response;
  try {
    response = await fetch(address);
  } catch (error) {
    throw new Error(`${address} could not be fetched: ${messageOf(error)}. ${WITHOUT}`, { cause: error });
  }
  const type = response.headers.get('content-type') ?? '';
  if (!response.ok) throw new Error(`${address} is not there: status ${response.status}. ${WITHOUT}`);
  // Some servers answer with a page whatever they are asked for.
  if (type.startsWith('text/html')) throw new Error(`${address} is a page. ${WITHOUT}`);
  if (type.startsWith('application/wasm')) return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Starts the module, once for all models of a page or worker. */
export async function startModule(source: LoadOptions['wasm']): Promise<{ memory: WebAssembly.Memory }> {
  started ??= (async () => {
    const module = await init({ module_or_path: await compiled(source) });
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
  // A panic in a call that nobody awaits: the module told its words beside it.
  if (error instanceof WebAssembly.RuntimeError) return failureOf(error);
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
  const address = host().absolute(source);
  const local = await host().read(address);
  if (local) {
    onProgress?.(local.length, local.length);
    return { bytes: local, name };
  }
  let response: Response;
  try {
    response = await fetch(address, signal ? { signal } : {});
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
