/**
 * Labelled images on their way through an evaluation, a batch at a time.
 * @module
 */
import { AbortedError, BadInputError, messageOf } from './errors.js';
import { readImages } from './images.js';
import { classNumber, ranged } from './options.js';
import type { ImageInput, ModelInfo } from './types.js';
import type { EvaluateOptions, ImageSource } from './types-evaluate.js';

/** What is asked, checked before any image is looked at. */
export interface Asked {
  /** The class of each image. */
  classes: Uint32Array;
  /** The options as the module reads them. */
  text: string;
}

/** Refuses lists of images and labels that do not fit, as far as the images' number is known yet. */
export function checkCounts(images: ImageSource, labels: ArrayLike<number | string>): void {
  const iterable = typeof images === 'object' && images !== null && (Symbol.iterator in images || Symbol.asyncIterator in images);
  if (!iterable) throw new BadInputError('images must be a list, or something that gives them one after the other');
  const count = Array.isArray(images) ? images.length : undefined;
  if (typeof labels !== 'object' || labels === null || !Number.isInteger(labels.length)) {
    throw new BadInputError('labels must be a list with the class of each image');
  }
  if (count === 0 || labels.length === 0) throw new BadInputError('there are no images to measure the model on');
  if (count !== undefined && count !== labels.length) {
    throw new BadInputError(`${labels.length} labels for ${count} images`);
  }
}

/** Checks labels and options. */
export function askEvaluation(images: ImageSource, labels: ArrayLike<number | string>, options: EvaluateOptions, info: ModelInfo): Asked {
  checkCounts(images, labels);
  if (info.head === 'multi_label') {
    throw new BadInputError('this model decides several labels one by one: evaluations are of models whose images have one class each');
  }
  // Each name is looked up once.
  const known = new Map<number | string, number>();
  const classes = Uint32Array.from({ length: labels.length }, (_, i) => {
    const label = labels[i]!;
    let found = known.get(label);
    if (found === undefined) {
      try {
        found = classNumber(label, info);
      } catch (error) {
        throw new BadInputError(`label ${i} (counted from 0): ${messageOf(error)}`);
      }
      known.set(label, found);
    }
    return found;
  });
  const { noiseErrorTimesteps: timesteps, noiseErrorImages: noiseImages, seed } = options;
  const given = (name: string, value: number | undefined, least: number, most: number): number | undefined =>
    value === undefined ? undefined : ranged(name, value, least, least, most, true);
  const text = JSON.stringify({
    images: classes.length,
    timesteps: given('noiseErrorTimesteps', timesteps, 0, info.diffusionSteps),
    noiseImages: given('noiseErrorImages', noiseImages, 1, 1e9),
    seed: ranged('seed', seed, 0, 0, Number.MAX_SAFE_INTEGER, true),
  });
  return { classes, text };
}

/** Images from a source in batches; what the source throws goes through `own`, for it is the caller's. */
export class Supply {
  readonly #iterator: Iterator<ImageInput> | AsyncIterator<ImageInput>;
  #ended = false;

  constructor(
    images: ImageSource,
    private readonly own: (error: unknown) => unknown = (error) => error,
  ) {
    this.#iterator = Symbol.asyncIterator in images ? images[Symbol.asyncIterator]() : images[Symbol.iterator]();
  }

  /** The next images, at most so many; none at the end. Waits for the source no longer than the signal allows. */
  async next(most: number, signal: AbortSignal | undefined): Promise<ImageInput[]> {
    const batch: ImageInput[] = [];
    while (batch.length < most && !this.#ended) {
      const step = await stopped(signal, async () => {
        try {
          return await this.#iterator.next();
        } catch (error) {
          this.#ended = true;
          throw this.own(error);
        }
      });
      if (step.done) this.#ended = true;
      else batch.push(step.value);
    }
    return batch;
  }

  /** Tells a source that was not read to its end that no more is wanted; nobody waits for it. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    void (async () => this.#iterator.return?.())().catch(() => undefined);
  }
}

/** The outcome of work, or an {@link AbortedError} as soon as the signal says so. */
async function stopped<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (!signal) return work();
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(new AbortedError());
    signal.addEventListener('abort', stop);
  });
  // Work that goes on without anybody waiting may fail without anybody hearing.
  const done = work();
  done.catch(() => undefined);
  try {
    return await Promise.race([done, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** What stands for an image that could not be read on its way to a worker. */
export class Unreadable {
  constructor(readonly unreadable: string) {}
}

/** What a batch of images became. */
export interface ReadBatch {
  /** Numbers of those that can be read, and the class of each. */
  numbers: Float32Array[];
  classes: number[];
  /** The others. */
  unreadable: { index: number; message: string }[];
}

/** Reads a batch whose first image has the number `first`, one after the other. */
export async function readBatch(
  images: (ImageInput | Unreadable)[],
  first: number,
  classes: Uint32Array,
  info: ModelInfo,
  skip: boolean,
): Promise<ReadBatch> {
  const read: ReadBatch = { numbers: [], classes: [], unreadable: [] };
  for (const [place, image] of images.entries()) {
    const index = first + place;
    try {
      if (image instanceof Unreadable) throw new BadInputError(image.unreadable);
      const [numbers] = await readImages([image], info);
      read.numbers.push(numbers!);
      read.classes.push(classes[index]!);
    } catch (error) {
      if (!(error instanceof BadInputError)) throw error;
      if (!skip) throw new BadInputError(`image ${index} (counted from 0): ${error.message}`);
      read.unreadable.push({ index, message: error.message });
    }
  }
  return read;
}
