/** Training a new model from nothing: its images, its recipe, its run, and the trainings that are kept. */

import { byId, make } from '../dom';
import { type Placed, takeFolders } from '../incoming';
import { clearAlert, report, say } from '../notice';
import { plural } from '../format';
import { readTestSet } from '../test-set';
import { chosenImages, showClasses } from './classes';
import { startKept } from './kept';
import { proposeShape, recipeOf, startRecipe } from './recipe';
import { begin, goOn, isTraining, startRun } from './run';

const nameField = byId<HTMLInputElement>('new-name');
/** What the images are called together. */
let set = '';
/** Whether the visitor named the training. */
let named = false;

function showLeftOut(words: string[]): void {
  byId('new-left-out').replaceChildren(...words.map((text) => make('li', { textContent: text })));
  byId('new-left-out-box').hidden = words.length === 0;
}

/** A name of a set as one of a training: without endings. */
function short(name: string): string {
  return name.replace(/\.(gz|idx\d?-ubyte)/gi, '').replace(/[-._]?(idx\d-ubyte|images)\b/gi, '').slice(0, 40) || 'My model';
}

async function take(files: Placed[]): Promise<void> {
  clearAlert();
  say('Reading the images’ files…');
  const read = await readTestSet(files, 'train');
  set = read.name;
  showClasses(read);
  showLeftOut(read.leftOut);
  if (!named) nameField.value = short(set);
  const [first] = read.items;
  if (first?.idx) proposeShape(Math.max(first.idx.of.width, first.idx.of.height), 1);
  else if (first) {
    const bitmap = await createImageBitmap(first.image()).catch(() => undefined);
    if (bitmap) proposeShape(Math.min(bitmap.width, bitmap.height), 3);
    bitmap?.close();
  }
  say(`The files are there: ${plural(read.items.length, 'image')}.`);
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
    resume: (name) => {
      goOn(name, () => ({ chosen: chosenImages(), set })).catch(report);
      byId('new-run').scrollIntoView({ block: 'nearest' });
    },
    use,
  });
  nameField.addEventListener('input', () => {
    named = nameField.value.trim() !== '';
  });
  takeFolders([byId<HTMLInputElement>('new-folder'), byId<HTMLInputElement>('new-files')], byId('new-drop'), take);
  byId<HTMLFormElement>('new-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (isTraining()) return;
    const work = async (): Promise<void> => {
      const chosen = chosenImages();
      await begin(nameField.value.trim() || short(set), chosen, set, recipeOf(chosen.names), showLeftOut);
    };
    work().catch(report);
  });
}
