/**
 * The GPU that a model runs on.
 * @module
 */
import { type DuetError, NoAdapterError, NoWebGpuError, messageOf } from './errors.js';
import { guarded } from './guard.js';
import { type Engine, fromModule } from './module.js';

/** What the module asks of an adapter. */
type Adapter = Pick<GPUAdapter, 'features' | 'limits' | 'info' | 'requestDevice'>;

/** What opens a device: an engine, or a check. */
type Opener = Pick<Engine, 'prepare' | 'open'>;

/** An open device. */
export interface OpenDevice {
  /** The name of its adapter. */
  adapter: string;
  /** The device, while it is ours to destroy. */
  own: GPUDevice | undefined;
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

/** Opens the engine's device: an embedder's where given, else one of our own. */
export async function openDevice(engine: Opener, device: GPUDevice | undefined): Promise<OpenDevice> {
  let opened = device;
  let refused: DuetError | undefined;
  const adapter = device ? undefined : await requestAdapter();
  // The adapter that is named is the one that is used: the module is handed it, and asks for no other.
  const chosen: Adapter = adapter ?? {
    features: device!.features,
    limits: device!.limits,
    info: device!.adapterInfo ?? { vendor: '', architecture: '', device: '', description: 'adopted device' },
    requestDevice: () => Promise.resolve(device!),
  };
  handOver(engine, {
    features: chosen.features,
    limits: chosen.limits,
    info: chosen.info,
    requestDevice: async (wanted) => {
      try {
        return (opened = await chosen.requestDevice(wanted));
      } catch (error) {
        refused = new NoAdapterError(`the browser offers a GPU but opens no device of it: ${messageOf(error)}`);
        throw error;
      }
    },
  });
  try {
    await guarded(() => engine.open());
  } catch (error) {
    if (!device) opened?.destroy();
    throw refused ?? fromModule(error);
  }
  // Browsers tell the exact name only where they think it gives nobody away.
  const info = opened?.adapterInfo ?? chosen.info;
  return {
    adapter: info.description || `${info.vendor} ${info.architecture}`.trim() || 'a device that the browser does not name',
    own: device ? undefined : opened,
  };
}

async function requestAdapter(): Promise<GPUAdapter> {
  const gpu = requireWebGpu();
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  } catch (error) {
    throw new NoAdapterError(`the browser has WebGPU but gives no GPU: ${messageOf(error)}`);
  }
  if (adapter) return adapter;
  throw new NoAdapterError('the browser has WebGPU but offers no GPU: drivers may be blocked or missing');
}

/**
 * Makes the module use an adapter that exists. The bindings only know how to ask `navigator.gpu`, so for the length of one
 * synchronous call, in which nothing else can run, it answers with the given adapter.
 */
function handOver(engine: Opener, adapter: Adapter): void {
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

/** Frees an engine and what it has on its device; `own` is destroyed with it. */
export function letGo(engine: Pick<Engine, 'release' | 'free'>, own: GPUDevice | undefined): void {
  try {
    engine.release();
    engine.free();
  } catch {
    // A call that failed inside of the module still holds the engine. Its memory is lost until the page goes; what made
    // the call fail is what the caller must hear.
  }
  own?.destroy();
}
