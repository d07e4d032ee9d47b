/**
 * Fine-tuning with a few options: the loss of each step, and the model as it is afterwards.
 * @module
 */
import { BadInputError, DeviceLostError } from './errors.js';
import { readImages } from './images.js';
import { type Inner, Thrown, joined } from './inner.js';
import { fromModule } from './module.js';
import { classNumber, ranged } from './options.js';
import type { TrainOptions, TrainResult } from './types.js';

/** The label of an image that has none. */
export const UNLABELLED = 0xffffffff;

/** Trains a model by {@link TrainOptions}. */
export function train(model: Inner, options: TrainOptions): Promise<TrainResult> {
  const { info, engine } = model;
  const { images, labels, onStep, signal } = options;
  const reading = readImages(images, info);
  return model.queued(signal, async () => {
    if (info.head === 'multi_label') throw new BadInputError('models with many labels cannot be trained in a page');
    if (images.length === 0 || images.length !== labels.length) {
      throw new BadInputError(`${labels.length} labels for ${images.length} images`);
    }
    const text = JSON.stringify({
      steps: ranged('steps', options.steps, 50, 1, 1e6, true),
      batchSize: ranged('batchSize', options.batchSize, 8, 2, 1024, true),
      learningRate: ranged('learningRate', options.learningRate, 1e-4, 0, 1),
      classifierLossScaling: ranged('classifierLossScaling', options.classifierLossScaling, 0.1, 0, 1e6),
      seed: ranged('seed', options.seed, 0, 0, Number.MAX_SAFE_INTEGER, true),
    });
    const numbers = joined(await reading);
    const classes = Uint32Array.from(labels, (one) => (one === null ? UNLABELLED : classNumber(one, info)));
    let learned = 0;
    let thrown: Thrown | undefined;
    const onFigures = (...figures: number[]): boolean => {
      const [done = 0, total = 0, loss = 0, mse = 0, classifierLoss = 0] = figures;
      learned = done;
      try {
        onStep?.({ done, total, loss, mse, classifierLoss });
      } catch (error) {
        thrown = new Thrown(error);
        return false;
      }
      return !model.stopped(signal);
    };
    try {
      const losses = await engine.train(text, numbers, classes, onFigures);
      return { steps: losses.length, losses };
    } catch (error) {
      // The caller's own error stops it as a signal does: what was learned stays.
      if (thrown) throw thrown;
      const typed = fromModule(error);
      // What was trained so far is lost with the device; the model is as it was before this call.
      if (typed.code !== 'aborted') learned = 0;
      if (typed instanceof DeviceLostError) await model.reopen(typed);
      throw typed;
    } finally {
      if (learned > 0) {
        engine.noteTraining(learned);
        model.changed();
      }
    }
  });
}
