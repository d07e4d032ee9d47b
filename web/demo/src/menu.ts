/** The menu of models: choosing one loads it in place of the present one, with its own samples. */

import { byId, make } from './dom';
import { holdsOwnImage, replaceImage, setImage } from './editor';
import { plural } from './format';
import { arrowKeys } from './grid-keys';
import { takeModels } from './incoming';
import { noteModel, startLinks } from './link';
import { setMaskText } from './mask';
import { choiceOfAddress, choiceOfFile, chosenModel, fetchModels, setChosenModel } from './models';
import type { Choice } from './models';
import { alertWith, report } from './notice';
import { keepOffline } from './offline';
import { fetchSamples, markSample, showSamples } from './samples';
import type { Sample } from './samples';
import { hasModel, openModel } from './session';
import { offerSamples } from './train';

const menu = byId('model-menu');
const brush = byId<HTMLInputElement>('brush');
const hint = byId('image-hint');
const ownHint = hint.textContent;

let choices: Choice[] = [];
let loading: Choice | undefined;
/** Whether the page's address has been followed. */
let followed = false;

/** A few words with links, written [text](address), into an element; none hide it. */
function fill(element: HTMLElement, text: string | undefined): void {
  const parts = (text ?? '').split(/\[([^\]]*)\]\(([^)]*)\)/);
  element.replaceChildren(
    ...parts.flatMap((part, i): (Node | string)[] => {
      if (i % 3 === 1) return [make('a', { href: parts[i + 1] ?? '', textContent: part })];
      return i % 3 === 0 && part !== '' ? [part] : [];
    }),
  );
  element.hidden = text === undefined;
}

/** Marks the model in use and the one that comes. */
function mark(): void {
  [...menu.children].forEach((button, i) => {
    button.setAttribute('aria-pressed', String(hasModel() && choices[i] === chosenModel()));
    button.setAttribute('aria-busy', String(choices[i] === loading));
  });
}

/** Draws the menu anew; the keyboard's focus stays where it was. */
function draw(): void {
  const focused = [...menu.children].indexOf(document.activeElement as Element);
  const buttons = choices.map((choice) => {
    const picture = choice.icon
      ? make('img', { src: choice.icon, alt: '', width: 44, height: 44 })
      : make('span', { className: 'model-letter', textContent: choice.name.slice(0, 1).toUpperCase() });
    picture.setAttribute('aria-hidden', 'true');
    const words = make(
      'span',
      { className: 'model-words' },
      make('span', { className: 'model-name', textContent: choice.name }),
      make('span', { className: 'model-about', textContent: choice.about }),
    );
    const button = make('button', { type: 'button', className: 'model-card', title: choice.name }, picture, words);
    button.addEventListener('click', () => void choose(choice));
    return button;
  });
  menu.replaceChildren(...buttons);
  arrowKeys(buttons, Math.max(0, choices.findIndex((choice) => choice === chosenModel())));
  buttons[focused]?.focus();
  mark();
}

/** Shows what belongs to a model beside its classes. */
function showSurroundings(choice: Choice, samples: Sample[] | undefined): void {
  const link = byId<HTMLAnchorElement>('model-card-link');
  link.hidden = choice.card === undefined;
  if (choice.card !== undefined) link.href = choice.card;
  hint.textContent = choice.hint ?? ownHint;
  brush.value = String(choice.brush ?? brush.defaultValue);
  // The visitor's own model is tried on the pictures that are there.
  if (samples === undefined) return;
  const own = holdsOwnImage();
  showSamples(samples, ({ picture, label }) => {
    setImage(picture, label).catch(report);
  });
  offerSamples(samples);
  fill(byId('samples-credit'), samples.length > 0 ? choice.credit : undefined);
  byId('samples-heading').hidden = samples.length === 0;
  if (!followed) {
    followed = true;
    if (!startLinks()) byId('sample-grid').querySelector('button')?.click();
  } else if (!own) {
    // A sample of the model before means nothing to this one; what the visitor drew or brought stays.
    setMaskText(undefined);
    replaceImage(samples[0]);
    markSample(samples[0]?.picture);
  }
}

/** Fetches what belongs to a model, and gives what shows it; before the first model it is shown at once. */
async function surroundings(choice: Choice, signal: AbortSignal): Promise<() => void> {
  const folder = choice.samples ?? (followed ? undefined : choices.find(({ samples }) => samples !== undefined)?.samples);
  const samples = folder === undefined ? (followed ? undefined : []) : await fetchSamples(folder, signal);
  const put = (): void => showSurroundings(choice, samples);
  if (hasModel()) return put;
  put();
  return () => undefined;
}

/** Loads a model in place of the present one, which stays where that fails. Says whether it was loaded. */
async function choose(choice: Choice, first = false): Promise<boolean> {
  if (choice === loading) return false;
  loading = choice;
  mark();
  const loaded = await openModel(choice, (signal) => surroundings(choice, signal));
  if (loaded) {
    setChosenModel(choice);
    // A file of the same name is the newer one.
    if (!choices.includes(choice)) {
      choices = [...choices.filter(({ source, file }) => !(source instanceof File && file === choice.file)), choice];
      draw();
    }
    noteModel(choice, choice === choices[0], first);
    // After all that the visitor waits for.
    void keepOffline(choice, choices);
  }
  if (loading === choice) loading = undefined;
  mark();
  return loaded;
}

/** Opens files that the visitor chose or dropped: one is used. */
export async function openFiles(files: File[]): Promise<void> {
  const [file, ...more] = files;
  if (!file) return;
  const loaded = await choose(choiceOfFile(file));
  if (loaded && more.length > 0) {
    alertWith(`One model is used at a time; left out: ${plural(more.length, 'file')} (${more.map(({ name }) => name).join(', ')}).`);
  }
}

/** Fills the menu and loads the model that the page's address names, or the first one. */
export async function startMenu(): Promise<void> {
  takeModels(byId<HTMLInputElement>('open-model'), byId('models'), (files) => void openFiles(files));
  let missing: string | undefined;
  try {
    choices = await fetchModels();
  } catch (error) {
    // A model of one's own can be opened all the same.
    console.warn(error);
    missing = error instanceof Error ? error.message : String(error);
  }
  draw();
  const asked = new URLSearchParams(location.search).get('model');
  const choice = asked === null ? choices[0] : (choices.find(({ id }) => id === asked) ?? choiceOfAddress(asked));
  const loaded = await choose(choice ?? choiceOfAddress('model.safetensors'), true);
  if (missing !== undefined && loaded) alertWith(`The list of models could not be fetched: ${missing}.`);
}
