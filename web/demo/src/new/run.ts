/** A new model's training: begun or gone on with, held up while nobody sees the page, stopped, and what is seen of it. */

import { Duet, DuetWorker, trainings } from 'duet-diffusion';
import type { DuetModel, Recipe, RecipeTrainOptions, SavedCheckpoint } from 'duet-diffusion';
import { byId, download, make } from '../dom';
import { bytes, count, plural, timeLeft } from '../format';
import { isCancel, messageOf, PageError } from '../messages';
import { clearAlert, report, say } from '../notice';
import { show } from '../picture';
import { readTestSet } from '../test-set';
import { type Chosen, type ClassNames, chosenAgain } from './classes';
import { addLosses, drawCurves, type Seen, upTo } from './curve';
import { allowed, filesIn, recall, remember } from './folders';
import { keepImages, keptImages, readImages, type Split, wordsOf } from './images';
import { fileName, freeName, showKept } from './kept';
import { downloadRecipe } from './recipe-file';

const start = byId<HTMLButtonElement>('new-start');
const stop = byId<HTMLButtonElement>('new-stop');
const progress = byId<HTMLProgressElement>('new-progress');
const progressText = byId('new-progress-text');
const state = byId('new-state');
const kept = byId('new-saved');
const panel = byId('new-run');
const title = document.title;

/** The model that is trained or was trained last. */
let model: DuetModel | undefined;
let name = '';
let controller: AbortController | undefined;
/** The newest checkpoint. */
let saved: SavedCheckpoint | undefined;
let names: string[] = [];

/** Whether a training runs. */
export function isTraining(): boolean {
  return controller !== undefined;
}

/** Says what the training is doing. Screen readers read it, so it changes seldom. */
function tell(text: string): void {
  if (state.textContent !== text) state.textContent = text;
}

/** Waits until somebody sees the page again. */
async function seen(): Promise<void> {
  if (!document.hidden) return;
  const since = performance.now();
  tell('Waits: this tab is hidden. It goes on as soon as the tab is shown.');
  document.title = `Waits – ${title}`;
  await new Promise<void>((resolve) => {
    const hear = (): void => {
      if (document.hidden) return;
      document.removeEventListener('visibilitychange', hear);
      resolve();
    };
    document.addEventListener('visibilitychange', hear);
  });
  document.title = `Trains – ${title}`;
  const seconds = Math.round((performance.now() - since) / 1000);
  tell(`Training ${name}. It waited ${plural(seconds, 'second')} while this tab was hidden.`);
}

/** Shows samples, one of each class. */
function showSamples(step: number, images: ImageData[]): void {
  const items = images.map((image, c) => {
    const canvas = show(make('canvas', { className: 'pixels' }), image);
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `Sample of ${names[c] ?? c} at step ${step}`);
    return make('figure', {}, canvas, make('figcaption', { textContent: names[c] ?? String(c) }));
  });
  byId('new-samples-grid').replaceChildren(...items);
  byId('new-samples-heading').textContent = `Samples at step ${step.toLocaleString('en')}`;
  byId('new-samples-box').hidden = false;
}

/** Says where the newest checkpoint is. */
function showSaved(now: SavedCheckpoint): void {
  saved = now;
  const size = `${bytes(now.bytes)}, at step ${now.step.toLocaleString('en')}`;
  kept.textContent =
    now.kept === 'storage'
      ? `The checkpoint is kept in this browser: ${size}.`
      : `The checkpoint is in this page’s memory alone (${size}): ${now.reason ?? 'nothing is kept'}. Download it before you leave.`;
  kept.classList.toggle('note', now.kept === 'memory');
}

/** Shows progress with the time that is left, by the pace since the first steps: before them the GPU's programs are made. */
function pacer(): (done: number, total: number) => void {
  let first: { done: number; time: number } | undefined;
  return (done, total) => {
    first ??= { done, time: performance.now() };
    const pace = (performance.now() - first.time) / 1000 / (done - first.done);
    const left = done > first.done && done < total ? `, ${timeLeft(pace * (total - done))} left` : '';
    progress.max = total;
    progress.value = done;
    progressText.textContent = `step ${done.toLocaleString('en')} of ${total.toLocaleString('en')}${left}`;
  };
}

/** Trains a model until its end, or until it is stopped; tells how it ended. */
async function train(trained: DuetModel, split: Split, recipe: Recipe | undefined, before: Seen, signal: AbortSignal): Promise<void> {
  names = split.names;
  byId('new-of').textContent = wordsOf(split);
  const { losses, looks } = before;
  const total = { steps: recipe?.train?.steps ?? losses.at(-1)?.done ?? 1 };
  const pace = pacer();
  let drawing = 0;
  const draw = (): void => {
    // Steps may come faster than the screen shows them.
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => drawCurves({ losses, looks }, total.steps));
  };
  draw();
  saved = undefined;
  tell(`Preparing the training of ${name}…`);
  const options: RecipeTrainOptions = {
    ...split.train,
    ...(split.heldOut && { heldOut: split.heldOut }),
    ...(recipe && { recipe }),
    keep: name,
    signal,
    beforeStep: seen,
    onStep: ({ done, total: steps, mse, classifierLoss }) => {
      total.steps = steps;
      if (losses.length === 0 || state.textContent?.startsWith('Preparing')) tell(`Training ${name}…`);
      addLosses(before, { done, mse, classifierLoss });
      pace(done, steps);
      draw();
    },
    onEvaluate: (look) => {
      looks.push(look);
      draw();
    },
    onSamples: ({ step, images }) => showSamples(step, images),
    onSave: (now) => {
      showSaved(now);
      if (now.kept === 'memory') return;
      const text = JSON.stringify({ losses, looks } satisfies Seen);
      // The curve alone may miss: the training goes on without it.
      trainings.attach(name, 'curve', new Blob([text])).catch((error: unknown) => console.warn(error));
      void showKept();
    },
  };
  try {
    const { step } = await trained.trainByRecipe(options);
    tell(`${name} is trained: ${plural(step, 'step')}.`);
  } catch (error) {
    const at = (saved as SavedCheckpoint | undefined)?.step;
    const where = at === undefined ? 'Nothing was saved in this run.' : `Its checkpoint of step ${at.toLocaleString('en')} stays.`;
    tell(`${isCancel(error) ? 'Stopped' : 'Stopped by an error'}. ${where}`);
    if (!isCancel(error)) throw error;
  }
}

/** Runs a training: the one at a time that this page has. */
async function run(called: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  if (controller) throw new PageError(`${name} is trained already: stop it first.`);
  clearAlert();
  controller = new AbortController();
  name = called;
  const focused = document.activeElement === start;
  panel.hidden = false;
  start.disabled = true;
  stop.disabled = false;
  if (focused) stop.focus({ preventScroll: true });
  byId('new-name-shown').textContent = name;
  byId('new-done').hidden = true;
  byId('new-samples-box').hidden = true;
  byId('new-progress-box').hidden = false;
  progress.removeAttribute('value');
  progressText.textContent = '';
  kept.textContent = '';
  kept.classList.remove('note');
  document.title = `Trains – ${title}`;
  panel.dataset.running = 'true';
  try {
    await work(controller.signal);
  } catch (error) {
    // It ended before its first step, or by an error that has been told.
    if (isCancel(error)) tell('Stopped.');
    else {
      if (!state.textContent?.startsWith('Stopped')) tell('It could not begin.');
      throw error;
    }
  } finally {
    controller = undefined;
    document.title = title;
    const hadFocus = document.activeElement === stop;
    start.disabled = false;
    stop.disabled = true;
    if (hadFocus) start.focus({ preventScroll: true });
    byId('new-progress-box').hidden = true;
    byId('new-done').hidden = saved === undefined;
    panel.dataset.running = 'false';
    await showKept('');
  }
}

/** On the main thread for debugging and for browsers whose workers have no WebGPU. */
function onMain(): boolean {
  return new URLSearchParams(location.search).get('thread') === 'main';
}

/** Takes a model in place of the one that was trained before. */
function take(made: DuetModel): DuetModel {
  model?.dispose().catch((error: unknown) => console.warn(error));
  model = made;
  byId('new-facts').textContent = `${count(made.info.parameters)} parameters; ${made.info.adapter}`;
  return made;
}

/** Images that were chosen, and where they come from. */
export interface Given {
  chosen: Chosen;
  /** What they are called together. */
  set: string;
  /** What their classes are called. */
  names: ClassNames;
  /** The folder they lie in, where the browser can remember it. */
  folder: FileSystemDirectoryHandle | undefined;
}

/** Begins a training of a new model. */
export async function begin(wanted: string, given: Given, recipe: Recipe, leftOut: (words: string[]) => void): Promise<void> {
  const { chosen, set, folder, names: called } = given;
  if (chosen.names.length < 2) {
    throw new PageError('A new model needs images of at least two classes: drop a folder with a folder of pictures for each, or idx files.');
  }
  await run(await freeName(wanted), async (signal) => {
    tell('Making the model…');
    const made = take(await (onMain() ? Duet.create(recipe, { signal }) : DuetWorker.create(recipe, { signal })));
    tell('Reading the images…');
    const all = chosen.items.length;
    const split = await readImages(
      made,
      chosen,
      set,
      signal,
      (done) => {
        progress.max = all;
        progress.value = done;
        progressText.textContent = `${done.toLocaleString('en')} of ${plural(all, 'image')}`;
      },
      leftOut,
    );
    try {
      await keepImages(name, split);
    } catch (error) {
      // Who goes on after a reload then gives them again.
      const then = folder ? `the folder ${folder.name} is read again then` : 'drop them again then';
      say(`The images cannot be kept for after a reload, so ${then}: ${messageOf(error)}`);
    }
    if (folder) await remember({ folder, names: called }, name);
    await showKept(name);
    await train(made, split, recipe, { losses: [], looks: [] }, signal);
  });
}

/**
 * The images of a training that are not kept here: of the folder that they were chosen from, which the visitor is asked for, or those
 * that were given again.
 */
async function imagesAgain(which: string, given: Given): Promise<{ chosen: Chosen; set: string }> {
  const others = given.chosen.items.length > 0;
  const known = await recall(which);
  if (!known && !others) throw new PageError('The images of this training are not kept here: drop the same ones, then resume.');
  if (!known) return given;
  try {
    await allowed(known.folder);
    tell(`Reading the files in the folder ${known.folder.name}…`);
    const set = await readTestSet(await filesIn(known.folder), 'train');
    return { chosen: chosenAgain(set, known.names), set: set.name };
  } catch (error) {
    if (!others) throw error;
    return given;
  }
}

/**
 * Goes on with a training that is kept, to its end or, of one that is finished, for `more` steps; `given` are the visitor's images,
 * where those of the training could not be kept.
 */
export async function goOn(which: string, given: Given, more?: number): Promise<void> {
  await run(which, async (signal) => {
    tell(`Loading the training ${which}…`);
    let split = await keptImages(which);
    // What a browser asks it asks within the click.
    const again = split ? undefined : await imagesAgain(which, given);
    await showKept(which);
    const options = { signal, training: true };
    const file = await trainings.checkpoint(which);
    const made = take(await (onMain() ? Duet.load(file, options) : DuetWorker.load(file, options)));
    const at = made.info.training;
    if (!at) throw new PageError(`${which} has no training state.`);
    const { step, recipe } = at;
    const steps = recipe.train?.steps ?? step;
    // Another tab may have finished it meanwhile.
    if (step >= steps && more === undefined) throw new PageError(`${which} is finished: all ${steps.toLocaleString('en')} steps are done.`);
    if (again) {
      split = await readImages(made, again.chosen, again.set, signal, () => undefined, () => undefined);
      // There may be room by now; where there is none it goes on as it did.
      await keepImages(which, split).catch(() => undefined);
    }
    if (!split) throw new PageError(`The images of ${which} are not there.`);
    const curve = await trainings.attached(which, 'curve');
    const before = curve ? upTo(JSON.parse(await curve.text()) as Seen, step) : { losses: [], looks: [] };
    const end = more === undefined ? steps : Math.max(step, steps) + more;
    await train(made, split, { ...recipe, train: { ...recipe.train, steps: end } }, before, signal);
  });
}

/** Wires the buttons of what was trained; `use` takes a model for the other tabs. */
export function startRun(use: (file: File) => void): void {
  stop.addEventListener('click', () => controller?.abort());
  byId('new-use').addEventListener('click', () => {
    const write = async (): Promise<void> => {
      if (!model) return;
      const file = await model.export({ dtype: 'f32' });
      use(new File([file as BlobPart], fileName(name, '.safetensors')));
    };
    write().catch(report);
  });
  byId('new-download').addEventListener('click', () => {
    const write = async (): Promise<void> => {
      if (!model) return;
      download(new Blob([(await model.export()) as BlobPart]), fileName(name, '.safetensors'));
    };
    write().catch(report);
  });
  byId('new-checkpoint').addEventListener('click', () => {
    const write = async (): Promise<void> => {
      if (!model) return;
      download(new Blob([(await model.export({ training: true })) as BlobPart]), fileName(name, `-${saved?.step ?? 0}.safetensors`));
    };
    write().catch(report);
  });
  byId('new-done-recipe').addEventListener('click', () => {
    const recipe = model?.info.training?.recipe;
    if (recipe) downloadRecipe(recipe, name);
  });
  window.addEventListener('beforeunload', (event) => {
    // What is in this page alone would be lost.
    if (saved?.kept === 'memory') event.preventDefault();
  });
}
