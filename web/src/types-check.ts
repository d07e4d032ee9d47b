/**
 * What {@link Duet.checkDevice} is asked, and what it answers.
 * @module
 */
import type { LoadOptions } from './types.js';

/** A family of kernels; a browser runs the first two. */
export type KernelFamily = 'direct' | 'tiled' | 'subgroup';

/** What came of an operation in one family of kernels. */
export interface CheckedOperation {
  /** The operation. */
  name: string;
  /** The family of its kernels. */
  family: KernelFamily;
  /** Largest difference of the result and its gradients, as a share of their length; `null` where one is no number. */
  off: number | null;
  /** What went wrong: numbers that differ, or an error of the device; `null`: it is right. */
  wrong: string | null;
}

/** What a device is and what it computed: the report of `duet check --full`, key by key, by the same code. */
export interface DeviceReport {
  /** Version of Duet. */
  version: string;
  /** Name of the GPU, as far as the browser tells. */
  adapter: string;
  /** Driver and its version; empty in a browser, which does not tell. */
  driver: string;
  /** The graphics API. */
  backend: string;
  /** Whether it computes on the CPU. */
  software: boolean;
  /** The browser's name of itself. */
  platform: string;
  /** Seconds that opening the device took. */
  open_seconds: number;
  /** Seconds that the training step took, its kernels' compilation included. */
  test_seconds: number;
  /** Pipelines compiled. */
  pipelines: number;
  /** What the device offers, as far as kernels depend on it. */
  limits: {
    /** Invocations of a workgroup at most. */
    workgroup_invocations: number;
    /** Bytes of workgroup memory. */
    workgroup_bytes: number;
    /** Invocations of every subgroup; 0 in a browser, where no kernel uses them. */
    subgroup: number;
    /** Largest storage binding in bytes. */
    binding_bytes: number;
    /** Whether shaders may read and write f16 in buffers: no page asks for it. */
    f16: boolean;
  };
  /** Families of kernels that the device can run. */
  families: KernelFamily[];
  /** Whether other families than the direct one are ever chosen on it. */
  beyond_direct: boolean;
  /** Largest `off` that is right. */
  tolerance: number;
  /** What is wrong with a training step and its gradients; `null`: they are right. */
  training_step: string | null;
  /** Each operation in each family that has kernels of its own for it. */
  operations: CheckedOperation[];
  /** What was computed when the device was lost, and the browser's words; what would have come then is missing. `null`: it was not lost. */
  lost: string | null;
}

/** State of a check, before each of its parts and after the last. */
export interface CheckProgress {
  /** Parts done: a training step, then the operations. */
  done: number;
  /** Parts in all. */
  total: number;
  /** The part that comes next; nothing after the last. */
  next?: string;
  /** What was found so far. */
  report: DeviceReport;
}

/** Options of {@link Duet.checkDevice}. */
export interface CheckDeviceOptions extends Pick<LoadOptions, 'wasm'> {
  /** Stops the check before its next part, and in a worker of its own at once; it rejects with an {@link AbortedError}. */
  signal?: AbortSignal;
  /** The embedder's device. It is used and never destroyed. Default: one is opened as for a model, and destroyed at the end. */
  device?: GPUDevice;
  /** Hears of each part before it is computed: a driver that hangs does so in the one heard of last. */
  onProgress?: (progress: CheckProgress) => void;
}

/** Options of {@link DuetWorker.checkDevice}: a device cannot be given, for devices do not travel between threads. */
export interface WorkerCheckOptions extends Omit<CheckDeviceOptions, 'device'> {
  /** The worker to use, running this package's `worker.js`; by default one is started, and ended with the check. */
  worker?: Worker;
}
