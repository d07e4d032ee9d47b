/**
 * Training by a recipe: images to levels, checkpoints to where they are kept, and on after a lost device.
 * @module
 */
import { AbortedError, BadInputError, DeviceLostError, DuetError } from './errors.js';
import { Supply, readBatch } from './evaluate.js';
import { toImage } from './images.js';
import { type Inner, Thrown, split } from './inner.js';
import { classNumber } from './options.js';
import { Keeper, reasonOf } from './trainings.js';
import { UNLABELLED } from './train.js';
import type { ModelInfo } from './types.js';
import type { ImageSource } from './types-evaluate.js';
import type {
  HeldOutFigures,
  LabelledImages,
  PrepareAllOptions,
  PreparedImages,
  RecipeTrainOptions,
  RecipeTrainResult,
  SavedCheckpoint,
  TrainingFigures,
} from './types-train.js';

/** Images read between two looks at the signal. */
const BATCH = 16;

/** A number in −1..1 as the nearest of the 256 levels that pictures have. */
function level(value: number): number {
  return Math.max(0, Math.min(255, Math.round((value + 1) * 127.5)));
}

/** Images as levels, one after the other: no more than a few are unpacked at a time. */
export async function prepareAll(info: ModelInfo, images: ImageSource, options: PrepareAllOptions): Promise<PreparedImages> {
  const { signal, skipUnreadable = false, onProgress } = options;
  const iterable = typeof images === 'object' && images !== null && (Symbol.iterator in images || Symbol.asyncIterator in images);
  if (!iterable) throw new BadInputError('images must be a list, or something that gives them one after the other');
  const supply = new Supply(images);
  const size = info.channels * info.imageSize ** 2;
  const unreadable: PreparedImages['unreadable'] = [];
  // As many as are known to come, else as many again as there are whenever they are too few.
  let levels = new Uint8Array(size * (Array.isArray(images) ? images.length : 64));
  let [done, count] = [0, 0];
  try {
    for (;;) {
      const given = await supply.next(BATCH, signal);
      if (signal?.aborted) throw new AbortedError();
      if (given.length === 0) break;
      const part = await readBatch(given, done, new Uint32Array(0), info, skipUnreadable);
      unreadable.push(...part.unreadable);
      const need = (count + part.numbers.length) * size;
      if (need > levels.length) {
        const longer = new Uint8Array(Math.max(need, 2 * levels.length));
        longer.set(levels);
        levels = longer;
      }
      for (const numbers of part.numbers) {
        const at = size * count++;
        for (let i = 0; i < size; i++) levels[at + i] = level(numbers[i]!);
      }
      done += given.length;
      onProgress?.({ done });
    }
  } finally {
    supply.close();
  }
  return { levels: count * size === levels.length ? levels : levels.slice(0, count * size), count, unreadable };
}

/** Levels and classes of labelled images. */
async function given(of: LabelledImages, what: string, info: ModelInfo, signal: AbortSignal | undefined) {
  if (typeof of !== 'object' || of === null || typeof of.labels !== 'object' || of.labels === null || !Number.isInteger(of.labels.length)) {
    throw new BadInputError(`${what} need labels, a list with the class of each`);
  }
  const { labels } = of;
  const known = new Map<number | string | null, number>([[null, UNLABELLED]]);
  const classes = Uint32Array.from({ length: labels.length }, (_, i) => {
    const label = labels[i]!;
    const found = known.get(label) ?? classNumber(label as number | string, info);
    known.set(label, found);
    return found;
  });
  const size = info.channels * info.imageSize ** 2;
  const levels = of.images instanceof Uint8Array ? of.images : (await prepareAll(info, of.images, { ...(signal && { signal }) })).levels;
  if (classes.length === 0 || levels.length !== classes.length * size) {
    const count = levels.length / size;
    const many = Number.isInteger(count) ? String(count) : `${levels.length} levels, which are no whole number of`;
    throw new BadInputError(`${classes.length} labels for ${many} ${what} of ${info.channels}·${info.imageSize}·${info.imageSize} levels`);
  }
  return { levels, classes };
}

/** Work that ends early where the signal says so. */
async function unlessStopped(work: Promise<void> | void, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return work;
  let stop = (): void => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
    signal.addEventListener('abort', stop);
  });
  try {
    await Promise.race([work, stopped]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Trains a model by {@link RecipeTrainOptions}. */
export function trainByRecipe(model: Inner, options: RecipeTrainOptions): Promise<RecipeTrainResult> {
  const { info, engine } = model;
  const { signal, recipe, keep } = options;
  return model.queued(signal, async () => {
    const images = await given(options, 'images', info, signal);
    const heldOut = options.heldOut && (await given(options.heldOut, 'held-out images', info, signal));
    const keeping = await opened(keep, info.training?.step);
    const last: { saved?: SavedCheckpoint } = {};
    let thrown: Thrown | undefined;
    // Steps since the device was last lost: one that is lost without any would be lost again.
    let steps = 0;
    /** Tells the caller; what that throws stops the run at its next step, saved. */
    const tell = (telling: () => void): void => {
      try {
        telling();
      } catch (error) {
        thrown ??= new Thrown(error);
      }
    };
    const goesOn = (): boolean => !thrown && !model.stopped(signal);
    const listener = {
      goesOn,
      async before(step: number): Promise<boolean> {
        if (!goesOn()) return false;
        try {
          await unlessStopped(options.beforeStep?.(step), signal);
        } catch (error) {
          thrown ??= new Thrown(error);
        }
        steps += 1;
        return goesOn();
      },
      stepped: (told: TrainingFigures) => tell(() => options.onStep?.(told)),
      evaluated: (told: HeldOutFigures) => tell(() => options.onEvaluate?.(told)),
      sampled(step: number, numbers: Float32Array) {
        const size = info.channels * info.imageSize ** 2;
        const made = split(numbers, numbers.length / size).map((one) => toImage(one, info));
        tell(() => options.onSamples?.({ step, images: made }));
      },
      async save(step: number, bytes: Uint8Array): Promise<void> {
        let reason = keeping.reason;
        try {
          await keeping.keeper?.save(step, bytes);
        } catch (error) {
          reason = reasonOf(error);
        }
        const kept = keeping.keeper && reason === undefined ? 'storage' : 'memory';
        const told: SavedCheckpoint = { step, bytes: bytes.length, kept, ...(reason !== undefined && { reason }) };
        last.saved = told;
        tell(() => options.onSave?.(told));
      },
    };
    const text = JSON.stringify({
      ...(recipe !== undefined && { recipe }),
      otherwise: options.otherwise ?? false,
      samples: options.onSamples !== undefined,
    });
    const none = { levels: new Uint8Array(0), classes: new Uint32Array(0) };
    const looked = heldOut ?? none;
    try {
      for (;;) {
        try {
          await engine.trainByRecipe(text, images.levels, images.classes, looked.levels, looked.classes, listener);
          break;
        } catch (error) {
          const typed = await model.cause(error);
          if (!(typed instanceof DeviceLostError)) throw thrown ?? typed;
          await model.reopen(typed);
          // From the last checkpoint on: the steps that are done again are the same ones.
          if (steps <= 1) throw typed;
          steps = 0;
        }
      }
      if (thrown) throw thrown;
      if (!last.saved) throw new DuetError('internal', 'the training ended without a checkpoint');
      return { step: last.saved.step, saved: last.saved };
    } finally {
      keeping.keeper?.close();
      // Also a training that was stopped has come somewhere.
      model.changed();
    }
  });
}

/** Where checkpoints go: storage, or why not. */
async function opened(keep: string | undefined, step: number | undefined): Promise<{ keeper?: Keeper; reason?: string }> {
  if (keep === undefined) return {};
  try {
    return { keeper: await Keeper.open(keep, step) };
  } catch (error) {
    // A name that is taken is the caller's mistake; without storage a training goes on all the same.
    if (error instanceof DuetError) throw error;
    return { reason: reasonOf(error) };
  }
}
