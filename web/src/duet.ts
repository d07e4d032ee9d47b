/**
 * A model on this thread.
 * @module
 */
import { checkDevice } from './check.js';
import { letGo, lossOf, type OpenDevice, openDevice, type Source, sourceOf } from './device.js';
import { AbortedError, BadInputError, DeviceLostError, DuetError } from './errors.js';
import { Supply, askEvaluation, readBatch } from './evaluate.js';
import { type Answers, type Likeness, explanations } from './explain.js';
import { finite, guarded } from './guard.js';
import { readImages, readMask, toImage } from './images.js';
import { type Inner, Thrown, joined, split } from './inner.js';
import { Engine, fetchCheckpoint, fromModule, oppositeGround, startModule } from './module.js';
import { type Ask, checkSignal, classNumber, explainText, methodOf, ranged, sampleText, targetOf } from './options.js';
import { train } from './train.js';
import { prepareAll, trainByRecipe } from './train-recipe.js';
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
  TrainOptions,
  TrainResult,
  Usage,
} from './types.js';
import type { CheckDeviceOptions, DeviceReport } from './types-check.js';
import type { EvaluateOptions, Evaluation, ImageSource } from './types-evaluate.js';
import type { CreateOptions, PrepareAllOptions, PreparedImages, Recipe, RecipeTrainOptions, RecipeTrainResult } from './types-train.js';

/** A step size that steers new images without distorting them. */
const SAMPLE_ALPHA = 20;
/** Most answers to one question. */
const MOST_VARIANTS = 1000;
/** Images classified, measured or looked at for noise between two looks at the signal. */
const IMAGE_BATCH = 8;

/**
 * A joint diffusion model on this thread, through WebGPU. Steps are submitted in small parts and awaited, so a page
 * stays responsive; {@link DuetWorker} keeps even the host's share of the work off the page's thread.
 */
export class Duet implements DuetModel {
  readonly info: ModelInfo;
  readonly #engine: Engine;
  readonly #memory: WebAssembly.Memory;
  /** Where devices come from, until the model goes. */
  #source: Source | undefined;
  #own: GPUDevice | undefined;
  /** The last call in the queue. */
  #queue: Promise<unknown> = Promise.resolve();
  #disposed: Promise<void> | undefined;
  /** What broke the engine for good. */
  #broken: DuetError | undefined;
  /** The image that was last compared with the training data alone: whoever explains it has seen it classified before. */
  #compared: { image: Float32Array; likeness: Likeness } | undefined;

  /** This model for the work that has files of its own. */
  readonly #inner: Inner;

  private constructor(engine: Engine, memory: WebAssembly.Memory, source: Source, open: OpenDevice) {
    this.#engine = engine;
    this.#memory = memory;
    this.#source = source;
    this.#own = open.own;
    this.info = { ...told(engine), adapter: open.adapter };
    this.#inner = {
      engine,
      info: this.info,
      queued: (signal, call) => this.#queued(signal, call),
      stopped: (signal) => this.#disposed !== undefined || (signal?.aborted ?? false),
      cause: (error) => this.#cause(error),
      reopen: (lost) => this.#reopen(lost as DeviceLostError),
      changed: () => {
        this.#compared = undefined;
        // Nor does a trained model know any longer how its training data looked to it.
        Object.assign(this.info, told(engine));
      },
    };
  }

  /**
   * Loads a checkpoint and opens the GPU.
   *
   * @throws {@link NoWebGpuError}, {@link NoAdapterError}, {@link LimitTooSmallError}, {@link OutOfMemoryError},
   * {@link BadCheckpointError}, {@link AbortedError}, or a {@link DuetError} with code "network".
   */
  static async load(source: CheckpointSource, options: LoadOptions = {}): Promise<Duet> {
    const { training = false, ...rest } = options;
    return Duet.#open(rest, () => fetchCheckpoint(source, options), ({ bytes, name }) => new Engine(bytes, name, training));
  }

  /**
   * Makes a new model by a recipe, or its sections `model` and `diffusion` alone, with weights drawn by a seed: those that the
   * command's `duet train` would begin with.
   *
   * @throws {@link BadInputError} whose `field` names what is wrong with the recipe; for the rest as {@link Duet.load}.
   */
  static async create(recipe: Recipe, options: CreateOptions = {}): Promise<Duet> {
    const { seed, ...rest } = options;
    const drawn = seed === undefined ? undefined : ranged('seed', seed, 0, 0, Number.MAX_SAFE_INTEGER, true);
    const text = JSON.stringify(recipe) ?? 'null';
    return Duet.#open(rest, () => Promise.resolve(), () => Engine.create(text, drawn));
  }

  /** A model of whatever is read, on a device. */
  static async #open<T>(
    { device, signal, wasm }: Pick<LoadOptions, 'device' | 'signal' | 'wasm'>,
    read: () => Promise<T>,
    make: (read: T) => Engine,
  ): Promise<Duet> {
    checkSignal(signal);
    const from = await sourceOf(device);
    const [{ memory }, found] = await Promise.all([startModule(wasm), read()]);
    checkSignal(signal);
    let engine: Engine | undefined;
    let open: OpenDevice | undefined;
    try {
      engine = make(found);
      open = await openDevice(engine, from);
      checkSignal(signal);
      return new Duet(engine, memory, from, open);
    } catch (error) {
      if (engine) letGo(engine, open?.own);
      throw fromModule(error);
    }
  }

  /**
   * Whether a device computes what it should: a training step, and every operation with its gradients in every family of kernels that it
   * can run, against stored numbers. No model is needed. Numbers that are wrong, and a device that is lost on the way, are told in the
   * report; it is that of `duet check --full`.
   *
   * @throws {@link NoWebGpuError}, {@link NoAdapterError}, {@link LimitTooSmallError} where there is no device to check;
   * {@link AbortedError}, or a {@link DuetError} with code "network".
   */
  static checkDevice(options: CheckDeviceOptions = {}): Promise<DeviceReport> {
    return checkDevice(options);
  }

  async prepare(image: ImageInput): Promise<ImageData> {
    // Nothing on the GPU: it waits for no other call.
    if (this.#disposed) throw gone();
    const [numbers] = await readImages([image], this.info);
    return toImage(numbers!, this.info);
  }

  async classify(image: ImageInput, options: CallOptions = {}): Promise<Classification> {
    const [answer] = await this.classifyAll([image], options);
    return answer!;
  }

  async classifyAll(images: ImageInput[], { signal }: CallOptions = {}): Promise<Classification[]> {
    // Images are read when the call is made, not when its turn comes: the caller may draw on.
    const reading = readImages(images, this.info);
    return this.#again(signal, async () => {
      const numbers = await reading;
      const answers: Classification[] = [];
      for (let from = 0; from < images.length; from += IMAGE_BATCH) {
        this.#checkStopped(signal);
        const part = numbers.slice(from, from + IMAGE_BATCH);
        const rows = finite('probabilities', await this.#engine.classify(joined(part)));
        const likeness = await this.#likeness(part);
        part.forEach((_, i) => answers.push({ ...this.#classification(rows, i), ...likeness[i] }));
      }
      return answers;
    });
  }

  async predictNoise(
    images: ImageInput[],
    timesteps: number | number[],
    { signal }: CallOptions = {},
  ): Promise<Float32Array[]> {
    const reading = readImages(images, this.info);
    const given = Array.isArray(timesteps) ? timesteps : images.map(() => timesteps);
    if (given.length !== images.length) {
      throw new BadInputError(`${given.length} timesteps for ${images.length} images`);
    }
    const last = this.info.diffusionSteps - 1;
    const steps = Uint32Array.from(given, (t) => ranged('timestep', t, last, 0, last, true));
    return this.#again(signal, async () => {
      const numbers = await reading;
      const answers: Float32Array[] = [];
      for (let from = 0; from < images.length; from += IMAGE_BATCH) {
        this.#checkStopped(signal);
        const part = numbers.slice(from, from + IMAGE_BATCH);
        const noise = await this.#engine.predictNoise(joined(part), steps.slice(from, from + IMAGE_BATCH));
        answers.push(...split(finite('noise', noise), part.length));
      }
      return answers;
    });
  }

  sample(options: SampleOptions = {}): Promise<ImageData[]> {
    return this.#again(options.signal, async () => {
      const { onStep, signal } = options;
      const wanted = options.class;
      const classes = wanted === undefined ? [] : [wanted].flat().map((one) => classNumber(one, this.info));
      const count = ranged('count', options.count, Math.max(1, classes.length), 1, 4096, true);
      if (classes.length > 1 && classes.length !== count) {
        throw new BadInputError(`${classes.length} classes for ${count} images`);
      }
      const labels = joined(
        Array.from({ length: count }, (_, i) => this.#target(classes[classes.length > 1 ? i : 0] ?? 0)),
      );
      const text = sampleText(options, SAMPLE_ALPHA, classes.length > 0);
      const images = await this.#watched(signal, (report) =>
        this.#engine.sample(text, labels, (done: number, total: number) => report(() => onStep?.({ done, total }))),
      );
      return split(finite('samples', images), count).map((numbers) => toImage(numbers, this.info));
    });
  }

  async explain(image: ImageInput, options: ExplainOptions): Promise<Explanation> {
    const reading = readImages([image], this.info);
    const variants = ranged('variants', options.variants, 1, 1, MOST_VARIANTS, true);
    const ask = { one: { ...targetOf(options.target, this.info), variants } };
    const { all, stability } = await this.#explained(reading, ask, options);
    return { ...all[0]!, ...(stability && { variants: all, stability }) };
  }

  async explainAll(image: ImageInput, options: ExplainAllOptions = {}): Promise<Explanation[]> {
    const { all } = await this.#explained(readImages([image], this.info), { all: {} }, options);
    return all;
  }

  async invert(image: ImageInput, options: ExplainAllOptions = {}): Promise<void> {
    await this.#explained(readImages([image], this.info), { none: {} }, options);
  }

  /** Asks about an image; what is wrong with the options is said before anything waits. */
  #explained(
    reading: Promise<Float32Array[]>,
    ask: Ask,
    options: ExplainAllOptions,
  ): Promise<{ all: Explanation[]; stability: Float32Array | undefined }> {
    const { info } = this;
    const { onStep, signal } = options;
    const method = methodOf(options);
    const text = explainText(ask, options);
    const masking = options.mask === undefined ? undefined : readMask(options.mask, info);
    masking?.catch(() => undefined);
    return this.#again(signal, async () => {
      const [image = new Float32Array()] = await reading;
      const mask = await masking;
      const [likeness] = await this.#likeness([image]);
      const made = (await this.#watched(signal, (report) =>
        this.#engine.explain(text, image.slice(), mask, (done: number, total: number, curve?: Float32Array) =>
          report(() => onStep?.({ done, total, ...(curve && { curve }) })),
        ),
      )) as Answers;
      const all = await explanations(made, {
        info,
        method,
        image,
        likeness,
        classification: (row) => this.#classification(row, 0),
        compare: (images) => this.#likeness(images, false),
      });
      return { all, stability: made.stability };
    });
  }

  train(options: TrainOptions): Promise<TrainResult> {
    return train(this.#inner, options);
  }

  trainByRecipe(options: RecipeTrainOptions): Promise<RecipeTrainResult> {
    return trainByRecipe(this.#inner, options);
  }

  async prepareAll(images: ImageSource, options: PrepareAllOptions = {}): Promise<PreparedImages> {
    // Nothing on the GPU: it waits for no other call.
    if (this.#disposed) throw gone();
    return prepareAll(this.info, images, options);
  }

  async evaluate(images: ImageSource, labels: ArrayLike<number | string>, options: EvaluateOptions = {}): Promise<Evaluation> {
    const { info } = this;
    const { onProgress, signal, skipUnreadable = false } = options;
    const { classes, text } = askEvaluation(images, labels, options, info);
    const total = classes.length;
    return this.#queued(signal, async () => {
      const supply = new Supply(images, (error) => new Thrown(error));
      const unreadable: Evaluation['unreadable'] = [];
      try {
        this.#engine.beginEvaluation(text);
        let done = 0;
        for (;;) {
          const given = await supply.next(IMAGE_BATCH, signal);
          this.#checkStopped(signal);
          if (given.length === 0) break;
          if (done + given.length > total) throw new BadInputError(`${total} labels, and more images than that`);
          const part = await readBatch(given, done, classes, info, skipUnreadable);
          unreadable.push(...part.unreadable);
          if (part.numbers.length > 0) {
            // What was added before stays, also where the device is lost on the way.
            const goOn = () => !this.#disposed && !signal?.aborted;
            await this.#restarted(() => this.#engine.evaluate(joined(part.numbers), Uint32Array.from(part.classes), goOn));
          }
          done += given.length;
          try {
            onProgress?.({ done, total });
          } catch (error) {
            throw new Thrown(error);
          }
        }
        if (done < total) throw new BadInputError(`${total} labels for ${done} images`);
        if (unreadable.length === total) throw new BadInputError(`no image can be read: ${unreadable[0]!.message}`);
        return { ...(JSON.parse(this.#engine.endEvaluation()) as Evaluation), unreadable };
      } finally {
        this.#engine.dropEvaluation();
        supply.close();
      }
    });
  }

  export({ dtype = 'f16', training = false }: ExportOptions = {}): Promise<Uint8Array> {
    return this.#queued(undefined, () =>
      Promise.resolve(training ? this.#engine.exportTraining() : this.#engine.export(dtype === 'f32')),
    );
  }

  estimate({ batch }: { batch?: number } = {}): Promise<Estimate> {
    return this.#queued(undefined, () => {
      const size = ranged('batch', batch, 1, 1, 4096, true);
      return Promise.resolve(JSON.parse(this.#engine.estimate(size)) as Estimate);
    });
  }

  usage(): Promise<Usage> {
    return this.#queued(undefined, () => {
      const [buffers = 0, bufferBytes = 0, pipelines = 0, heapBytes = 0] = this.#engine.usage();
      return Promise.resolve({ buffers, bufferBytes, pipelines, heapBytes, wasmBytes: this.#memory.buffer.byteLength });
    });
  }

  selfTest(): Promise<void> {
    return this.#again(undefined, () => this.#engine.selfTest());
  }

  dispose(): Promise<void> {
    // A running call hears of it at its next step; whoever disposes again waits for the same end.
    this.#disposed ??= this.#queue.then(() => {
      letGo(this.#engine, this.#own);
      this.#own = this.#source = undefined;
    });
    return this.#disposed;
  }

  /** Throws where the caller has asked to stop, or the model goes. */
  #checkStopped(signal: AbortSignal | undefined): void {
    checkSignal(signal);
    if (this.#disposed) throw gone();
  }

  /**
   * Runs an engine's call with a function for each step: it tells the caller, and answers whether to go on. The call ends
   * where telling throws, the signal says so, or the model goes.
   */
  async #watched<T>(
    signal: AbortSignal | undefined,
    call: (report: (tell: () => void) => boolean) => Promise<T>,
  ): Promise<T> {
    let thrown: Thrown | undefined;
    const report = (tell: () => void): boolean => {
      try {
        tell();
      } catch (error) {
        thrown = new Thrown(error);
        return false;
      }
      return !this.#disposed && !signal?.aborted;
    };
    try {
      return await call(report);
    } catch (error) {
      throw thrown ?? error;
    }
  }

  /** What the model is steered to: a class, or for a multi-label model that label alone. */
  #target(which: number): Float32Array {
    if (this.info.head === 'multiclass') return Float32Array.of(which);
    return Float32Array.from({ length: this.info.numClasses }, (_, c) => (c === which ? 1 : 0));
  }

  /** How images compare with what the model was trained on, as far as its file tells; one alone is kept in mind. */
  async #likeness(images: Float32Array[], keep = images.length === 1): Promise<Likeness[]> {
    const { unlikeBeyond, channels, imageSize, ground, resizeTo } = this.info;
    const [first = new Float32Array()] = images;
    const known = this.#compared;
    if (keep && known && known.image.every((value, i) => value === first[i])) return [known.likeness];
    const percentiles = unlikeBeyond === null ? undefined : await this.#engine.typicality(joined(images));
    const all = images.map((image, i) => {
      const percentile = percentiles?.[i];
      const known = percentile !== undefined && unlikeBeyond !== null;
      return {
        typicality: known ? { percentile, unlike: percentile > unlikeBeyond } : null,
        oppositeGround: oppositeGround(image, channels, imageSize, ground, resizeTo),
      };
    });
    if (keep && all[0]) this.#compared = { image: first.slice(), likeness: all[0] };
    return all;
  }

  #classification(rows: Float32Array, row: number): Classification {
    const { numClasses, classNames } = this.info;
    const probabilities = rows.slice(row * numClasses, (row + 1) * numClasses);
    const best = probabilities.reduce((best, p, c) => (p > probabilities[best]! ? c : best), 0);
    return { best, label: classNames[best] ?? String(best), probabilities };
  }

  /** Runs a call when all earlier ones have ended. */
  #queued<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    const run = async () => {
      if (this.#disposed) throw gone();
      checkSignal(signal);
      if (this.#broken) throw this.#broken;
      try {
        // The call that failed so keeps the engine borrowed: no other can be made.
        return await guarded(call, (error) => (this.#broken = error));
      } catch (error) {
        if (error instanceof Thrown) throw error.error;
        const typed = await this.#cause(error);
        if (typed.code !== 'aborted') throw typed;
        // The module hears only that it is to stop, not why.
        throw this.#disposed && !signal?.aborted ? gone() : new AbortedError();
      }
    };
    const result = this.#queue.then(run);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /** As `#queued`, for calls that can start over on a new device where theirs was lost. */
  #again<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    return this.#queued(signal, () => this.#restarted(call));
  }

  /** Work that is done once more, on a new device, where its device was lost. */
  async #restarted<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Thrown) throw error;
      const typed = await this.#cause(error);
      if (!(typed instanceof DeviceLostError)) throw typed;
      await this.#reopen(typed);
      return await work();
    }
  }

  /** What the module failed of. Firefox tells of a lost device late, and of memory that it has none of before. */
  async #cause(error: unknown): Promise<DuetError> {
    const typed = fromModule(error);
    const device = this.#own ?? this.#source?.device;
    return (typed.code === 'out-of-memory' && device && (await lossOf(device, typed))) || typed;
  }

  /** Opens a new device with the weights of the host's copy, unless the lost one was the embedder's. */
  async #reopen(lost: DeviceLostError): Promise<void> {
    if (this.#disposed || !this.#source) throw gone();
    if (this.#source.device) throw lost;
    const open = await openDevice(this.#engine, this.#source);
    this.#own = open.own;
    // Another GPU, where the one of before was unplugged.
    this.info.adapter = open.adapter;
  }
}

/** The error of calls that the model's end came before. */
function gone(): DuetError {
  return new DuetError('disposed', 'the model was disposed of');
}

/** What an engine tells of its model. */
function told(engine: Engine): Omit<ModelInfo, 'adapter'> {
  return JSON.parse(engine.info()) as Omit<ModelInfo, 'adapter'>;
}
