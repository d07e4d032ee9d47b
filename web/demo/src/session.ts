/** The loaded model, and who is using it. */

import { Duet, DuetWorker } from 'duet-diffusion';
import type { DuetModel, LoadOptions } from 'duet-diffusion';
import { byId } from './dom';
import { bytes, percent } from './format';
import { isCancel, PageError } from './messages';
import type { Choice } from './models';
import { say } from './notice';
import { runTask, stopTask, whileBusy } from './task';

const root = document.documentElement;
const loadProgress = byId<HTMLProgressElement>('load-progress');
const loadCancel = byId<HTMLButtonElement>('load-cancel');

let model: DuetModel | undefined;
/** Why there is no model: said again to whoever wants to use it. */
let loadError: unknown;
/** Counts what was to be loaded: of several that wait, the last is. */
let asked = 0;
/** What happened to the model: another one was loaded, or it was trained. */
export type Change = 'loaded' | 'trained';

const listeners: ((model: DuetModel, change: Change, name: string) => void)[] = [];
/** Its file's name, and what the page calls it. */
let modelName = '';
let title = '';

/** Calls back with every model that is loaded and its file's name, and with the present one again once it was trained. */
export function onModel(listener: (model: DuetModel, change: Change, name: string) => void): void {
  listeners.push(listener);
}

/** Tells every listener of the present model. */
export function announceModel(change: Change): void {
  if (model) for (const listener of listeners) listener(model, change, modelName);
}

/** An image as the model sees it; nothing where there is no model yet. It waits for no other call. */
export function prepared(image: Blob | ImageData): Promise<ImageData | undefined> {
  const present = model;
  return present ? whileBusy(() => present.prepare(image)) : Promise.resolve(undefined);
}

/** Whether a model is loaded. */
export function hasModel(): boolean {
  return model !== undefined;
}

/** Uses the model. The page counts as busy meanwhile. */
export async function withModel<T>(use: (model: DuetModel) => Promise<T>): Promise<T> {
  if (!model) throw loadError ?? new PageError('No model is loaded yet. Wait for it, or open one with “Open a model…”.');
  return whileBusy(() => use(model as DuetModel));
}

/** A model and what else comes with it: both or neither, and nothing of a model stays on the GPU that is not used. */
async function loadWith(
  choice: Choice,
  alongside: (signal: AbortSignal) => Promise<() => void>,
  signal: AbortSignal,
): Promise<[DuetModel, () => void]> {
  // On the main thread for debugging and for browsers whose workers have no WebGPU.
  const main = new URLSearchParams(location.search).get('thread') === 'main';
  const options: LoadOptions = { onProgress: progressTeller(choice.name), signal };
  const loading = main ? Duet.load(choice.source, options) : DuetWorker.load(choice.source, options);
  const [loaded, more] = await Promise.allSettled([loading, alongside(signal)]);
  if (loaded.status === 'rejected') throw loaded.reason;
  if (more.status === 'fulfilled' && !signal.aborted) return [loaded.value, more.value];
  dispose(loaded.value);
  throw more.status === 'rejected' ? more.reason : signal.reason;
}

/** Frees a model. Nobody waits for it; that it could not be freed changes nothing for the next one. */
function dispose(old: DuetModel): void {
  old.dispose().catch((error: unknown) => console.warn(error));
}

/**
 * Loads a model in place of the present one, which stays if that fails; what runs is stopped. `alongside` fetches what
 * else belongs to it, and gives what shows that. Says whether the model was loaded.
 */
export async function openModel(
  choice: Choice,
  alongside: (signal: AbortSignal) => Promise<() => void>,
): Promise<boolean> {
  const mine = ++asked;
  await stopTask();
  if (mine !== asked) return false;
  const { name, file } = choice;
  const load = async (signal: AbortSignal): Promise<void> => {
    root.dataset.ready = 'false';
    say(`Loading ${name}…`);
    loadProgress.hidden = loadCancel.hidden = false;
    loadProgress.removeAttribute('value');
    try {
      const [loaded, show] = await loadWith(choice, alongside, signal);
      const old = model;
      model = loaded;
      modelName = file;
      title = name;
      if (old) dispose(old);
      show();
      say('Ready.');
      announceModel('loaded');
    } catch (error) {
      loadError = isCancel(error) ? undefined : error;
      throw error;
    } finally {
      loadProgress.hidden = loadCancel.hidden = true;
      root.dataset.ready = String(model !== undefined);
    }
  };
  const before = model;
  await runTask(loadCancel, load, file);
  if (model !== before) return true;
  // The next one is on its way already where this one was stopped for it.
  if (mine === asked) say(model ? `Still using ${title}, the model loaded before.` : 'No model is loaded.');
  return false;
}

/** Shows the download's progress; the spoken line changes at every quarter only. */
function progressTeller(name: string): (loaded: number, total: number | undefined) => void {
  let said = 0;
  return (loaded, total) => {
    if (!total) {
      loadProgress.removeAttribute('value');
      return;
    }
    const share = Math.min(1, loaded / total);
    loadProgress.value = share;
    const quarter = Math.floor(4 * share);
    if (quarter > said) {
      said = quarter;
      say(quarter < 4 ? `Loading ${name}: ${percent(share)} of ${bytes(total)}` : 'Preparing the GPU…');
    }
  };
}
