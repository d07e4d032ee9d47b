/**
 * The GPU that a model runs on.
 * @module
 */
import { DeviceLostError, type DuetError, NoAdapterError, messageOf } from './errors.js';
import { guarded } from './guard.js';
import { host } from './host.js';
import { type Engine, fromModule } from './module.js';

/** What the module asks of an adapter. */
type Adapter = Pick<GPUAdapter, 'features' | 'limits' | 'info' | 'requestDevice'>;

/** What opens a device: an engine, or a check. */
type Opener = Pick<Engine, 'prepare' | 'open'>;

/** Where devices come from: an embedder's device, or the program's WebGPU. Node's lives as long as it is held. */
export type Source = { device: GPUDevice; gpu?: undefined } | { gpu: GPU; device?: undefined };

/** An open device. */
export interface OpenDevice {
  /** The name of its adapter. */
  adapter: string;
  /** The device, while it is ours to destroy. */
  own: GPUDevice | undefined;
}

/** Where to take devices from; refuses early, with words, where there is no WebGPU. */
export async function sourceOf(device: GPUDevice | undefined): Promise<Source> {
  return device ? { device } : { gpu: await host().gpu() };
}

/** Opens the engine's device: an embedder's where given, else one of our own. */
export async function openDevice(engine: Opener, { device, gpu }: Source): Promise<OpenDevice> {
  let opened = device;
  let refused: DuetError | undefined;
  const adapter = gpu && (await requestAdapter(gpu));
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
        refused = new NoAdapterError(`there is a GPU, but no device of it can be opened: ${messageOf(error)}`);
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

async function requestAdapter(gpu: GPU): Promise<GPUAdapter> {
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  } catch (error) {
    throw new NoAdapterError(`there is WebGPU, but it gives no GPU: ${messageOf(error)}`);
  }
  if (adapter) return adapter;
  throw new NoAdapterError('there is WebGPU, but it offers no GPU: drivers may be blocked or missing');
}

/**
 * Makes the module use an adapter that exists. The bindings only know how to ask `navigator.gpu` of a window or a worker, so for the
 * length of one synchronous call, in which nothing else can run, it answers with the given adapter; where there is no navigator and
 * neither a window nor a worker of a browser, there are for as long.
 */
function handOver(engine: Opener, adapter: Adapter): void {
  const gpu = {
    requestAdapter: () => Promise.resolve(adapter),
    wgslLanguageFeatures: new Set<string>(),
    getPreferredCanvasFormat: () => 'bgra8unorm',
  };
  const scope = globalThis as Record<string, unknown>;
  const lent = (['navigator', 'Window'] as const).filter(
    (name) => scope[name] === undefined && !(name === 'Window' && scope['WorkerGlobalScope'] !== undefined),
  );
  for (const name of lent) Object.defineProperty(scope, name, { configurable: true, value: {} });
  const { navigator } = globalThis;
  Object.defineProperty(navigator, 'gpu', { configurable: true, get: () => gpu });
  try {
    engine.prepare();
  } catch (error) {
    throw fromModule(error);
  } finally {
    // The prototype's own property shows again.
    delete (navigator as { gpu?: unknown }).gpu;
    for (const name of lent) delete scope[name];
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

/** Milliseconds that a lost device may take to tell of its loss. */
const PATIENCE = 250;

/** The loss of a device that `cause` was told before; nothing where it is not lost. */
export async function lossOf(device: GPUDevice, cause: DuetError): Promise<DeviceLostError | undefined> {
  const late = new Promise<undefined>((done) => setTimeout(done, PATIENCE));
  const lost = await Promise.race([device.lost, late]);
  return lost && new DeviceLostError(`${lost.reason}: ${lost.message}`, { cause });
}
