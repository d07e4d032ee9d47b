/**
 * The WebAssembly module and the device it opens.
 * @module
 */
import init, { Engine, initSync, pictureValues } from './wasm/duet_web.js';
import {
  AbortedError,
  DuetError,
  NoAdapterError,
  NoWebGpuError,
  type PlainError,
  typedError,
} from './errors.js';
import { checkSignal } from './options.js';
import type { CheckpointSource, LoadOptions } from './types.js';

export { Engine, pictureValues };

let started: Promise<{ memory: WebAssembly.Memory }> | undefined;

/** Starts the module, once for all models of a page or worker. */
export async function startModule(source: LoadOptions['wasm']): Promise<{ memory: WebAssembly.Memory }> {
  started ??= (async () => {
    if (source instanceof WebAssembly.Module) return initSync({ module: source });
    if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
      return initSync({ module: await WebAssembly.compile(source as BufferSource) });
    }
    return source === undefined ? init() : init({ module_or_path: source });
  })();
  try {
    return await started;
  } catch (error) {
    // The next call may have better luck with the network.
    started = undefined;
    throw new DuetError('network', `the WebAssembly module could not be loaded: ${message(error)}`, { cause: error });
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The typed error of whatever the module threw. */
export function fromModule(error: unknown): DuetError {
  if (error instanceof DuetError) return error;
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    return typedError(error as PlainError);
  }
  return new DuetError('gpu', message(error), { cause: error });
}

/** Refuses early, with words, where there is no WebGPU. */
export function requireWebGpu(): GPU {
  const gpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (gpu) return gpu;
  throw new NoWebGpuError(
    globalThis.isSecureContext === false
      ? 'WebGPU needs a secure page: https, or localhost'
      : 'this browser has no WebGPU: Chrome and Edge have it from version 113, Safari from 26, Firefox from 141',
  );
}

/** Opens the engine's device: an embedder's where given, else one of our own. Returns the adapter's name. */
export async function openDevice(engine: Engine, device: GPUDevice | undefined): Promise<string> {
  let info: GPUAdapterInfo | undefined;
  if (device) {
    info = device.adapterInfo;
    adopt(engine, device);
  } else {
    // Asked here first, for a clear answer: the bindings cannot tell "no adapter" from other failures.
    const adapter = await requireWebGpu().requestAdapter();
    if (!adapter) {
      throw new NoAdapterError('the browser has WebGPU but offers no GPU: drivers may be blocked or missing');
    }
    info = adapter.info;
    engine.prepare();
  }
  await engine.open();
  // Browsers tell the exact name only where they think it gives nobody away.
  return info ? info.description || `${info.vendor} ${info.architecture}`.trim() : '';
}

/**
 * Makes the module use a device that exists. The bindings only know how to ask `navigator.gpu`, so for the length of one
 * synchronous call, in which nothing else can run, it answers with the given device.
 */
function adopt(engine: Engine, device: GPUDevice): void {
  const adapter = {
    features: device.features,
    limits: device.limits,
    info: device.adapterInfo ?? { vendor: '', architecture: '', device: '', description: 'adopted device' },
    isFallbackAdapter: false,
    requestDevice: () => Promise.resolve(device),
  };
  const gpu = {
    requestAdapter: () => Promise.resolve(adapter),
    wgslLanguageFeatures: new Set<string>(),
    getPreferredCanvasFormat: () => 'bgra8unorm',
  };
  const { navigator } = globalThis;
  Object.defineProperty(navigator, 'gpu', { configurable: true, get: () => gpu });
  try {
    engine.prepare();
  } finally {
    // The prototype's own property shows again.
    delete (navigator as { gpu?: unknown }).gpu;
  }
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
    throw new DuetError('network', `${name} could not be fetched: ${message(error)}`, { cause: error });
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
  try {
    if (!response.body) return new Uint8Array(await response.arrayBuffer());
    const parts: Uint8Array[] = [];
    let length = 0;
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      onProgress?.(length, total);
    }
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  } catch (error) {
    if (signal?.aborted) throw new AbortedError();
    throw new DuetError('network', `${name}: the download broke off: ${message(error)}`, { cause: error });
  }
}
