/**
 * A model in a worker, with the interface of one on this thread.
 * @module
 */
import { AbortedError, BadInputError, DuetError, messageOf, typedError } from './errors.js';
import { Supply, checkCounts } from './evaluate.js';
import { host, type AnyWorker, type Port } from './host.js';
import { portable } from './pixels.js';
import type { Calls, Progress, Request, Response, Sent, SentImages, Supplied } from './protocol.js';
import type {
  CallOptions,
  CheckpointSource,
  Classification,
  DuetModel,
  Estimate,
  ExplainAllOptions,
  ExplainOptions,
  Explanation,
  ExportOptions,
  ImageInput,
  LoadOptions,
  ModelInfo,
  SampleOptions,
  StepProgress,
  TrainOptions,
  TrainProgress,
  TrainResult,
  Usage,
} from './types.js';
import type { CheckProgress, DeviceReport, WorkerCheckOptions } from './types-check.js';
import type { EvaluateOptions, EvaluateProgress, Evaluation, ImageSource } from './types-evaluate.js';
import type {
  CreateOptions,
  LabelledImages,
  PrepareAllOptions,
  PreparedImages,
  Recipe,
  RecipeTrainOptions,
  RecipeTrainResult,
  TrainingEvent,
} from './types-train.js';

/** Options of {@link DuetWorker.load}: a device cannot be given, for devices do not travel between threads. */
export interface WorkerLoadOptions extends Omit<LoadOptions, 'device'>, WorkerChoice {}

/** Options of {@link DuetWorker.create}. */
export interface WorkerCreateOptions extends Omit<CreateOptions, 'device'>, WorkerChoice {}

/** Which worker. */
export interface WorkerChoice {
  /**
   * The worker to use, running this package's `duet-diffusion/worker`: a module worker or, in Node, one of `worker_threads`. By
   * default one is started, and ended by `dispose`.
   */
  worker?: AnyWorker;
}

interface Pending {
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
  onProgress: ((progress: never) => void) | undefined;
  /** Gives the next images, for a call that wants them as it goes. */
  supply: ((most: number) => Promise<Supplied[]>) | undefined;
  /** What a step of a training waits for. */
  beforeStep: RecipeTrainOptions['beforeStep'];
}

/** A model in a module worker: even the host's share of the work stays off the page's thread. */
export class DuetWorker implements DuetModel {
  /** Known once {@link DuetWorker.load} has resolved. */
  info!: ModelInfo;
  readonly #worker: Port;
  readonly #own: boolean;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #ended: DuetError | undefined;
  #disposed: Promise<void> | undefined;

  readonly #deaf: () => void;

  private constructor(worker: Port, own: boolean) {
    this.#worker = worker;
    this.#own = own;
    this.#deaf = worker.listen({ message: this.#onMessage, failure: this.#onFailure });
  }

  /** Starts a worker and loads a checkpoint in it; errors as of {@link Duet.load}. */
  static async load(source: CheckpointSource, options: WorkerLoadOptions = {}): Promise<DuetWorker> {
    const { onProgress, signal, wasm, worker, training } = options;
    const client = DuetWorker.#start(worker);
    try {
      const from = typeof source === 'string' || source instanceof URL ? host().absolute(source) : source;
      client.info = await client.#call(
        'load',
        [from, { ...moduleOf(wasm), ...(training !== undefined && { training }) }],
        signal,
        onProgress && (({ loaded, total }: { loaded: number; total: number | undefined }) => onProgress(loaded, total)),
      );
      return client;
    } catch (error) {
      client.#end();
      throw error;
    }
  }

  /** Starts a worker and makes a new model in it; as {@link Duet.create}. */
  static async create(recipe: Recipe, options: WorkerCreateOptions = {}): Promise<DuetWorker> {
    const { signal, wasm, worker, seed } = options;
    const client = DuetWorker.#start(worker);
    try {
      client.info = await client.#call('create', [recipe, { ...moduleOf(wasm), ...(seed !== undefined && { seed }) }], signal);
      return client;
    } catch (error) {
      client.#end();
      throw error;
    }
  }

  /** As {@link Duet.checkDevice}, in a worker: the page's thread has nothing of it to do. */
  static async checkDevice(options: WorkerCheckOptions = {}): Promise<DeviceReport> {
    const { onProgress, signal, wasm, worker } = options;
    const client = DuetWorker.#start(worker);
    // A driver that hangs hears of nothing: whoever stops waits for no part to end.
    const stop = () => client.#end(new AbortedError());
    signal?.addEventListener('abort', stop);
    try {
      return await client.#call('checkDevice', [moduleOf(wasm)], signal, onProgress);
    } finally {
      signal?.removeEventListener('abort', stop);
      client.#end();
    }
  }

  static #start(worker: AnyWorker | undefined): DuetWorker {
    return new DuetWorker(worker ? host().adopt(worker) : host().start(), worker === undefined);
  }

  async classify(image: ImageInput, options: CallOptions = {}): Promise<Classification> {
    const [answer] = await this.classifyAll([image], options);
    return answer!;
  }

  async prepare(image: ImageInput): Promise<ImageData> {
    return this.#call('prepare', [portable(image)]);
  }

  async classifyAll(images: ImageInput[], { signal }: CallOptions = {}): Promise<Classification[]> {
    return this.#call('classifyAll', [images.map(portable)], signal);
  }

  async predictNoise(
    images: ImageInput[],
    timesteps: number | number[],
    { signal }: CallOptions = {},
  ): Promise<Float32Array[]> {
    return this.#call('predictNoise', [images.map(portable), timesteps], signal);
  }

  async sample(options: SampleOptions = {}): Promise<ImageData[]> {
    const { onStep, signal, ...rest } = options;
    return this.#call('sample', [rest], signal, onStep);
  }

  async explain(image: ImageInput, options: ExplainOptions): Promise<Explanation> {
    return this.#call('explain', [portable(image), sent(options)], options.signal, options.onStep);
  }

  async explainAll(image: ImageInput, options: ExplainAllOptions = {}): Promise<Explanation[]> {
    return this.#call('explainAll', [portable(image), sent(options)], options.signal, options.onStep);
  }

  async invert(image: ImageInput, options: ExplainAllOptions = {}): Promise<void> {
    return this.#call('invert', [portable(image), sent(options)], options.signal, options.onStep);
  }

  async train(options: TrainOptions): Promise<TrainResult> {
    const { onStep, signal, images, ...rest } = options;
    return this.#call('train', [{ ...rest, images: images.map(portable) }], signal, onStep);
  }

  async trainByRecipe(options: RecipeTrainOptions): Promise<RecipeTrainResult> {
    const { signal, images, labels, heldOut, beforeStep, onStep, onEvaluate, onSamples, onSave, ...rest } = options;
    const hear = (progress: TrainingEvent): void => {
      if (progress.event === 'step') onStep?.(progress.told);
      else if (progress.event === 'evaluate') onEvaluate?.(progress.told);
      else if (progress.event === 'samples') onSamples?.(progress.told);
      else onSave?.(progress.told);
    };
    const sent = {
      ...rest,
      ...(await this.#levels({ images, labels }, signal)),
      ...(heldOut && { heldOut: await this.#levels(heldOut, signal) }),
      samples: onSamples !== undefined,
      waits: beforeStep !== undefined,
    };
    return this.#call('trainByRecipe', [sent], signal, hear, undefined, beforeStep);
  }

  /** Labelled images as they travel: as levels, which the worker makes of pictures a few at a time. */
  async #levels({ images, labels }: LabelledImages, signal: AbortSignal | undefined): Promise<SentImages> {
    const levels = images instanceof Uint8Array ? images : (await this.prepareAll(images, { ...(signal && { signal }) })).levels;
    return { images: levels, labels: ArrayBuffer.isView(labels) ? labels : Array.from(labels) };
  }

  async prepareAll(images: ImageSource, options: PrepareAllOptions = {}): Promise<PreparedImages> {
    const { onProgress, signal, ...rest } = options;
    const supply = supplied(images, signal);
    try {
      return await this.#call('prepareAll', [rest], signal, onProgress, supply.next);
    } finally {
      supply.close();
    }
  }

  async evaluate(images: ImageSource, labels: ArrayLike<number | string>, options: EvaluateOptions = {}): Promise<Evaluation> {
    const { onProgress, signal, ...rest } = options;
    checkCounts(images, labels);
    const supply = supplied(images, signal);
    // Lists of one's own making need not travel as they are.
    const sent = ArrayBuffer.isView(labels) ? labels : Array.from(labels);
    try {
      return await this.#call('evaluate', [sent, rest], signal, onProgress, supply.next);
    } finally {
      supply.close();
    }
  }

  async export(options: ExportOptions = {}): Promise<Uint8Array> {
    return this.#call('export', [options]);
  }

  async estimate(options: { batch?: number } = {}): Promise<Estimate> {
    return this.#call('estimate', [options]);
  }

  async usage(): Promise<Usage> {
    return this.#call('usage', []);
  }

  async selfTest(): Promise<void> {
    return this.#call('selfTest', []);
  }

  dispose(): Promise<void> {
    this.#disposed ??= (async () => {
      if (this.#ended) return;
      try {
        await this.#call('dispose', []);
      } finally {
        this.#end();
      }
    })();
    return this.#disposed;
  }

  #call<K extends keyof Calls>(
    call: K,
    input: Calls[K][0],
    signal?: AbortSignal,
    onProgress?:
      | ((
          progress: StepProgress &
            TrainProgress &
            EvaluateProgress &
            CheckProgress &
            TrainingEvent & { loaded: number; total: number | undefined },
        ) => void)
      | undefined,
    supply?: Pending['supply'],
    beforeStep?: Pending['beforeStep'],
  ): Promise<Calls[K][1]> {
    if (this.#ended) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(new AbortedError());
    const id = this.#next++;
    const abort = () => this.#worker.post({ id, abort: true } satisfies Request);
    return new Promise<Calls[K][1]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress: onProgress as Pending['onProgress'], supply, beforeStep });
      signal?.addEventListener('abort', abort);
      try {
        this.#worker.post({ id, call, arguments: input } as Request);
      } catch (error) {
        this.#pending.delete(id);
        reject(new BadInputError(`an argument cannot be sent to a worker: ${messageOf(error)}`));
      }
    }).finally(() => signal?.removeEventListener('abort', abort));
  }

  readonly #onMessage = (data: Response) => {
    const pending = this.#pending.get(data.id);
    if (!pending) return;
    if ('wants' in data) {
      void this.#supply(data.id, pending, data.wants);
      return;
    }
    if ('before' in data) {
      void this.#before(data.id, pending, data.before);
      return;
    }
    if ('progress' in data) {
      try {
        pending.onProgress?.(data.progress as Progress as never);
      } catch (error) {
        this.#give(data.id, pending, error);
      }
      return;
    }
    this.#pending.delete(data.id);
    if (this.info && data.info) Object.assign(this.info, data.info);
    if ('error' in data) pending.reject(typedError(data.error));
    else pending.resolve(data.result as never);
  };

  /** Ends a call by an error of the caller's own, as on the page's thread. */
  #give(id: number, pending: Pending, error: unknown): void {
    this.#pending.delete(id);
    this.#worker.post({ id, abort: true } satisfies Request);
    pending.reject(error);
  }

  /** Sends a call the images that it wants. */
  async #supply(id: number, pending: Pending, wants: number): Promise<void> {
    try {
      const images = (await pending.supply?.(wants)) ?? [];
      // The call may be over by then.
      if (this.#pending.has(id)) this.#worker.post({ id, images } satisfies Request);
    } catch (error) {
      if (this.#pending.has(id)) this.#give(id, pending, error);
    }
  }

  /** Lets a training go on once its step may be done. */
  async #before(id: number, pending: Pending, step: number): Promise<void> {
    try {
      await pending.beforeStep?.(step);
      if (this.#pending.has(id)) this.#worker.post({ id, go: true } satisfies Request);
    } catch (error) {
      if (this.#pending.has(id)) this.#give(id, pending, error);
    }
  }

  readonly #onFailure = (detail: string) => {
    const words = (what: string): string => (detail ? `${what}: ${detail}` : what);
    this.#end(
      this.info
        ? new DuetError('internal', words('the worker failed'))
        : new DuetError('network', words('the worker could not be loaded')),
    );
  };

  /** Rejects what is pending and lets the worker go. */
  #end(reason = new DuetError('disposed', 'the model was disposed of')): void {
    this.#ended ??= reason;
    this.#pending.forEach(({ reject }) => reject(reason));
    this.#pending.clear();
    this.#deaf();
    if (this.#own) this.#worker.end();
  }
}

/** Where the worker finds the module, where that is said. */
function moduleOf(wasm: LoadOptions['wasm']): Pick<LoadOptions, 'wasm'> {
  if (wasm === undefined) return {};
  return { wasm: typeof wasm === 'string' || wasm instanceof URL ? host().absolute(wasm) : wasm };
}

/** Images on their way, a few at a time. */
function supplied(images: ImageSource, signal: AbortSignal | undefined): { next: NonNullable<Pending['supply']>; close: () => void } {
  const iterable = typeof images === 'object' && images !== null && (Symbol.iterator in images || Symbol.asyncIterator in images);
  if (!iterable) throw new BadInputError('images must be a list, or something that gives them one after the other');
  const supply = new Supply(images);
  const travelling = (image: ImageInput): Supplied => {
    try {
      return portable(image);
    } catch (error) {
      if (!(error instanceof BadInputError)) throw error;
      return { unreadable: error.message };
    }
  };
  return { next: async (most) => (await supply.next(most, signal)).map(travelling), close: () => supply.close() };
}

/** An explanation's options as they travel: functions and signals stay here. */
function sent<T extends ExplainAllOptions>({ onStep, signal: _, mask, ...rest }: T): Sent<T> {
  const options = { ...rest, watched: onStep !== undefined, ...(mask !== undefined && { mask: portable(mask) }) };
  return options as unknown as Sent<T>;
}
