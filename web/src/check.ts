/**
 * Whether a device computes what it should, on this thread.
 * @module
 */
import { letGo, type OpenDevice, openDevice, sourceOf } from './device.js';
import { AbortedError } from './errors.js';
import { guarded } from './guard.js';
import { host } from './host.js';
import { DeviceCheck, fromModule, startModule } from './module.js';
import { checkSignal } from './options.js';
import type { CheckDeviceOptions, DeviceReport } from './types-check.js';

/** Checks a device, part by part, each awaited: the thread stays responsive. */
export async function checkDevice({ onProgress, signal, device, wasm }: CheckDeviceOptions): Promise<DeviceReport> {
  checkSignal(signal);
  const from = await sourceOf(device);
  await startModule(wasm);
  checkSignal(signal);
  const check = new DeviceCheck();
  let open: OpenDevice | undefined;
  /** The caller's own error, once there is one. */
  const thrown: unknown[] = [];
  const hear = (done: number, total: number, next: string | undefined, report: string): boolean => {
    try {
      onProgress?.({ done, total, ...(next !== undefined && { next }), report: JSON.parse(report) as DeviceReport });
    } catch (error) {
      thrown.push(error);
    }
    return thrown.length === 0 && !signal?.aborted;
  };
  try {
    open = await openDevice(check, from);
    checkSignal(signal);
    const { adapter } = open;
    const report = await guarded(() => check.run(adapter, host().name(), hear));
    if (thrown.length > 0) throw thrown[0];
    return JSON.parse(report) as DeviceReport;
  } catch (error) {
    if (thrown.length > 0) throw thrown[0];
    const typed = fromModule(error);
    throw typed.code === 'aborted' ? new AbortedError() : typed;
  } finally {
    letGo(check, open?.own);
  }
}
