/** The tab that measures the model on a test set that the visitor drops. */

import type { EvaluateProgress, ModelInfo } from 'duet-diffusion';
import { byId, make } from './dom';
import { plural, timeLeft } from './format';
import { type Placed, takeFolders } from './incoming';
import { outdateMeasured, showMeasured, startMeasured } from './measure-result';
import { PageError } from './messages';
import { clearAlert, say } from './notice';
import { onModel, withModel } from './session';
import { runTask } from './task';
import { type Labelled, type Matched, matchClasses, shareOf } from './test-classes';
import { type TestSet, readTestSet } from './test-set';

const limit = byId<HTMLInputElement>('measure-limit');
const timesteps = byId<HTMLSelectElement>('measure-timesteps');
const seed = byId<HTMLInputElement>('measure-seed');
const progress = byId<HTMLProgressElement>('measure-progress');
const progressText = byId('measure-progress-text');

let set: TestSet | undefined;
let matched: Matched | undefined;
let info: ModelInfo | undefined;
let modelName = '';

/** Says what the test set holds for the present model, and what is left out. */
function showSet(more: string[] = []): void {
  if (!set || !info) return;
  matched = matchClasses(set, info);
  const { classes, items } = matched;
  const there = new Set(classes);
  const missing = info.classNames.filter((_, c) => !there.has(c));
  const without = missing.length > 0 && there.size > 0 ? ` None of: ${missing.join(', ')}.` : '';
  byId('measure-found').textContent =
    items.length === 0
      ? `${set.name}: no image is of a class of this model, which has ${info.classNames.join(', ')}.`
      : `${set.name}: ${plural(items.length, 'image')} of ${there.size} of the model’s ${info.numClasses} classes.${without}`;
  const leftOut = [...matched.leftOut, ...more];
  byId('measure-left-out').replaceChildren(...leftOut.map((text) => make('li', { textContent: text })));
  byId('measure-left-out-box').hidden = leftOut.length === 0;
}

async function take(files: Placed[]): Promise<void> {
  clearAlert();
  say('Reading the test set…');
  try {
    set = await readTestSet(files);
  } catch (error) {
    say('The test set could not be read.');
    throw error;
  }
  showSet();
  say(matched ? `The test set is read: ${plural(matched.items.length, 'image')}.` : 'The test set is read.');
}

/** Shows progress with the time that is left, by the pace since the first images: before them the GPU's programs are made. */
function teller(): (state: EvaluateProgress) => void {
  let first: { done: number; time: number } | undefined;
  let drawing = 0;
  return ({ done, total }) => {
    first ??= { done, time: performance.now() };
    const { done: from, time } = first;
    const seconds = ((performance.now() - time) / 1000 / (done - from)) * (total - done);
    const left = done > from && done < total ? `, ${timeLeft(seconds)} left` : '';
    // Batches may come faster than the screen shows them.
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => {
      progress.max = total;
      progress.value = done;
      progressText.textContent = `${done.toLocaleString('en')} of ${plural(total, 'image')}${left}`;
    });
  };
}

/** The images, each made when its turn comes. */
function* imagesOf({ items }: Labelled): Generator<Blob | ImageData> {
  for (const item of items) yield item.image();
}

async function measure(signal: AbortSignal): Promise<void> {
  if (!set) throw new PageError('There is no test set yet: drop a folder or idx files first.');
  if (!matched || matched.items.length === 0) throw new PageError('No image of the test set is of a class of this model.');
  const [{ name }, all] = [set, matched];
  const chosen = shareOf(all, limit.valueAsNumber);
  progress.removeAttribute('value');
  progressText.textContent = '';
  await withModel(async (model) => {
    say(`Measuring on ${plural(chosen.items.length, 'image')}…`);
    const { denoises, diffusionSteps } = model.info;
    const evaluation = await model.evaluate(imagesOf(chosen), chosen.classes, {
      // Whatever the field says of other models.
      noiseErrorTimesteps: denoises ? Math.min(Number(timesteps.value), diffusionSteps) : 0,
      seed: seed.valueAsNumber,
      skipUnreadable: true,
      signal,
      onProgress: teller(),
    });
    const unreadable = evaluation.unreadable.map(({ index, message }) => `${chosen.items[index]?.name ?? index}: ${message}`);
    showSet(unreadable);
    const leftOut = [...all.leftOut, ...unreadable];
    const words = showMeasured({ evaluation, model: modelName, data: name, of: all.items.length, leftOut }, diffusionSteps);
    const without = unreadable.length > 0 ? ` ${plural(unreadable.length, 'picture')} could not be read.` : '';
    say(`Done. ${words}.${without}`);
  });
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  byId('measure-result').scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
}

/** Wires the tab. */
export function startMeasure(): void {
  startMeasured();
  onModel((model, change, name) => {
    info = model.info;
    modelName = name;
    byId('measure-labels-note').hidden = info.head !== 'multi_label';
    timesteps.disabled = !info.denoises;
    showSet();
    outdateMeasured(change);
  });
  const inputs = ['measure-folder', 'measure-files'].map((id) => byId<HTMLInputElement>(id));
  takeFolders(inputs, byId('measure-drop'), take);
  byId<HTMLFormElement>('measure-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void runTask(byId<HTMLButtonElement>('measure-cancel'), measure);
  });
}
