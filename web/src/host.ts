/**
 * What the package asks of the program that it runs in. `index.ts` is for browsers; `node.ts` and `deno.ts`, which package
 * managers choose by the conditions of `package.json`, put their own host in the browser's place.
 * @module
 */
import { browser } from './host-browser.js';
import type { Request, Response } from './protocol.js';

/** A worker with a model, as its client sees it. */
export interface Port {
  post(message: Request): void;
  /** Hears of everything that comes, until the function that it gives is called. */
  listen(on: Listeners): () => void;
  /** Ends the worker. */
  end(): void;
}

export interface Listeners {
  message: (message: Response) => void;
  /** The worker failed; words where there are any. */
  failure: (words: string) => void;
}

/** The client, as the worker sees it. */
export interface Client {
  post(message: Response): void;
  listen(message: (message: Request) => void): void;
  /** Hears no more, so that the worker ends. */
  close?(): void;
}

/** A worker that an embedder started: a `Worker`, or one of Node's `worker_threads`. */
export type AnyWorker = Worker | NodeWorker;

/** What a worker of Node's `worker_threads` has, as far as it is used. */
export interface NodeWorker {
  postMessage(message: unknown): void;
  on(event: string, listener: (value: any) => void): unknown;
}

/** A program that runs JavaScript. */
export interface Host {
  /** The WebGPU that there is. @throws {@link NoWebGpuError} with what to do where there is none. */
  gpu(): GPU | Promise<GPU>;
  /** An address as one from which files can be read, on every thread; what is relative is so to the page, or to the working folder. */
  absolute(address: string | URL): string;
  /** The bytes of a file of this machine's; `undefined` where the address is to be fetched. */
  read(address: string): Promise<Uint8Array> | undefined;
  /** Starts the package's worker. */
  start(): Port;
  /** An embedder's worker. */
  adopt(worker: AnyWorker): Port;
  /** Whether pictures are `ImageData`: Node has none, and Deno's lose their pixels on the way to another thread. */
  imageData: boolean;
  /** What program it is. */
  name(): string;
}

let current: Host = browser;

/** The program that this is. */
export function host(): Host {
  return current;
}

/** Says what program this is. */
export function useHost(host: Host): void {
  current = host;
}
