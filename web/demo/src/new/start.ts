/** Training a new model from nothing: its images, its recipe, its run, and the trainings that are kept. */

import { readPicture } from 'duet-diffusion';
import { byId, make } from '../dom';
import { type Placed, takeFolders } from '../incoming';
import { whileBusy } from '../task';
import { clearAlert, report, say } from '../notice';
import { plural } from '../format';
import { type Item, readTestSet } from '../test-set';
import { chosenImages, chosenNames, showClasses } from './classes';
import { allowed, canPick, filesIn, forget, pick, recall, remember } from './folders';
import { startKept } from './kept';
import { edits, proposeShape, recipeOf, startRecipe } from './recipe';
import { downloadRecipe, startRecipeFile } from './recipe-file';
import { begin, type Given, goOn, isTraining, startRun } from './run';

const nameField = byId<HTMLInputElement>('new-name');
/** Pictures that are looked at for size and colours. */
const LOOKED_AT = 12;
/** What the images are called together. */
let set = '';
/** The folder they were chosen from, where the browser can remember it. */
let folder: FileSystemDirectoryHandle | undefined;
/** Whether the visitor named the training. */
let named = false;

function showLeftOut(words: string[]): void {
  byId('new-left-out').replaceChildren(...words.map((text) => make('li', { textContent: text })));
  byId('new-left-out-box').hidden = words.length === 0;
}

/** A name of a set as one of a training: without endings, and none that says only which part of a set it is. */
function short(name: string): string {
  const words = name.replace(/\.gz$/i, '').replace(/[-._]?(idx\d-ubyte|images)\b/gi, '').slice(0, 40);
  return /^(|train|training|data|images)$/i.test(words) ? 'My model' : words;
}

function given(): Given {
  return { chosen: chosenImages(), set, names: chosenNames(), folder };
}

async function take(files: Placed[], from?: FileSystemDirectoryHandle): Promise<void> {
  clearAlert();
  say('Reading the images’ files…');
  const read = await readTestSet(files, 'train');
  [set, folder] = [read.name, from];
  showClasses(read);
  showLeftOut(read.leftOut);
  if (!named) nameField.value = short(set);
  const before = edits();
  const shape = await looksOf(read.items);
  if (shape && edits() === before) proposeShape(shape.pixels, shape.colours);
  say(`The files are there: ${plural(read.items.length, 'image')}.`);
}

/** Pixels a side and colours of images, by a few of them; nothing where none can be read. */
async function looksOf(items: Item[]): Promise<{ pixels: number; colours: number } | undefined> {
  const idx = items[0]?.idx?.of;
  if (idx) return { pixels: Math.max(idx.width, idx.height), colours: 1 };
  const every = Math.max(1, Math.floor(items.length / LOOKED_AT));
  let [pixels, colours] = [0, 1];
  for (let i = 0; i < items.length; i += every) {
    try {
      const { data, width, height } = await readPicture(items[i]!.image() as Blob);
      pixels = Math.max(pixels, Math.min(width, height));
      if (data.some((value, at) => at % 4 === 0 && (value !== data[at + 1] || value !== data[at + 2]))) colours = 3;
    } catch {
      // It is told when the images are read for training.
    }
  }
  return pixels > 0 ? { pixels, colours } : undefined;
}

/** Takes the images in a folder that the browser can remember. */
async function takeFrom(chosen: FileSystemDirectoryHandle): Promise<void> {
  clearAlert();
  await allowed(chosen);
  say(`Looking into the folder ${chosen.name}…`);
  await take(await filesIn(chosen), chosen);
  await remember({ folder: chosen, names: [] });
  await offerLast();
}

/** Offers the folder that was chosen last, at a visit before this one too. */
async function offerLast(): Promise<void> {
  const last = canPick() ? await recall() : undefined;
  const again = byId<HTMLButtonElement>('new-again');
  again.hidden = last === undefined;
  again.textContent = `Read “${last?.folder.name ?? ''}” again`;
  again.onclick = () => {
    if (last) whileBusy(() => takeFrom(last.folder)).catch(report);
  };
}

/** Has the folder chosen by the browser's picker, which can be remembered, in place of the input's. */
function startPicker(): void {
  byId('new-folder').addEventListener('click', (event) => {
    if (!canPick()) return;
    event.preventDefault();
    const choose = async (): Promise<void> => {
      const chosen = await pick();
      if (chosen) await whileBusy(() => takeFrom(chosen));
    };
    choose().catch(report);
  });
  void offerLast();
}

/** Shows one of the two ways to train. */
function chooseWay(): void {
  const way = document.querySelector<HTMLInputElement>('input[name=train-way]:checked')?.value;
  byId('train-further').hidden = way !== 'further';
  byId('train-new').hidden = way !== 'new';
}

/** Wires this half of the tab; `use` takes a model for the other tabs. */
export function startNew(use: (file: File) => void): void {
  for (const radio of document.querySelectorAll('input[name=train-way]')) radio.addEventListener('change', chooseWay);
  chooseWay();
  startRecipe();
  startRun(use);
  startKept({
    resume: (name, more) => {
      goOn(name, given(), more).catch(report);
      byId('new-run').scrollIntoView({ block: 'nearest' });
    },
    recipe: downloadRecipe,
    forget,
    use,
  });
  startRecipeFile(() => nameField.value.trim() || short(set));
  startPicker();
  nameField.addEventListener('input', () => {
    named = nameField.value.trim() !== '';
  });
  takeFolders([byId<HTMLInputElement>('new-folder'), byId<HTMLInputElement>('new-files')], byId('new-drop'), take);
  byId<HTMLFormElement>('new-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (isTraining()) return;
    const work = async (): Promise<void> => {
      const images = given();
      await begin(nameField.value.trim() || short(set), images, recipeOf(images.chosen.names), showLeftOut);
    };
    work().catch(report);
  });
}
