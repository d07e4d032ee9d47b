/** The classes of the images that a new model is to learn: counted, shown, renamed and left out. */

import { byId, make } from '../dom';
import { plural } from '../format';
import { blankCanvas, contextOf } from '../picture';
import type { Item, TestSet } from '../test-set';

/** Images of each class that are shown. */
const SHOWN = 6;
/** Pixels a side of one of them. */
const SIDE = 28;

/** A class as the set has it. */
interface Class {
  /** What the set calls it. */
  key: string;
  /** What the model is to call it; empty: left out. */
  name: string;
  items: Item[];
}

/** What classes are called, by their names in the set; those that are not there are left out. */
export type ClassNames = [key: string, name: string][];

/** Images with the number of the class of each. */
export interface Chosen {
  items: Item[];
  classes: number[];
  names: string[];
}

const list = byId('new-classes');
let classes: Class[] = [];

/** What an image's class is called in its set: the folder that it lies in, or its number. */
function keyOf({ where }: Item): string {
  return typeof where === 'number' ? String(where) : (where.at(-1) ?? '');
}

/** The order that people expect: numbers by their size, words by the alphabet. */
const order = new Intl.Collator('en', { numeric: true }).compare;

/** Draws the first images of a class side by side; one that cannot be read leaves its place empty. */
async function drawStrip(canvas: HTMLCanvasElement, items: Item[]): Promise<void> {
  const context = contextOf(canvas);
  for (const [place, item] of items.slice(0, SHOWN).entries()) {
    try {
      const image = item.image();
      const bitmap = await createImageBitmap(image);
      const side = Math.min(bitmap.width, bitmap.height);
      const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
      context.imageSmoothingEnabled = side > SIDE;
      context.drawImage(bitmap, left, top, side, side, place * SIDE, 0, SIDE, SIDE);
      bitmap.close();
    } catch {
      // Whether it is left out is told when the images are read for training.
    }
  }
}

function row(one: Class): HTMLElement {
  const strip = blankCanvas(SHOWN * SIDE, SIDE);
  strip.className = 'class-strip';
  strip.setAttribute('aria-hidden', 'true');
  void drawStrip(strip, one.items);
  const input = make('input', { type: 'text', value: one.name, maxLength: 40, autocomplete: 'off', spellcheck: false });
  input.setAttribute('aria-label', `Name of the class ${one.key}`);
  input.addEventListener('input', () => {
    one.name = input.value.trim();
    tell();
  });
  const count = make('span', { className: 'class-count', textContent: plural(one.items.length, 'image') });
  const remove = make('button', { className: 'remove', type: 'button', textContent: '×', title: 'Leave out' });
  remove.setAttribute('aria-label', `Leave out the class ${one.key}`);
  const item = make('li', {}, strip, input, count, remove);
  remove.addEventListener('click', () => {
    classes = classes.filter((other) => other !== one);
    // The keyboard's focus goes on to the next one, not to the top of the page.
    const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector('button');
    item.remove();
    (next ?? byId('new-folder')).focus();
    tell();
  });
  return item;
}

/** Says what there is to learn from. */
function tell(): void {
  const { items, names } = chosenImages();
  const all = classes.reduce((sum, one) => sum + one.items.length, 0);
  const without = all - items.length;
  const parts = [`${plural(items.length, 'image')} of ${names.length === 1 ? '1 class' : `${names.length} classes`}`];
  if (without > 0) parts.push(`${without.toLocaleString('en')} left out, whose class has no name`);
  if (names.length === 1) parts.push('a classifier needs two classes');
  byId('new-found').textContent = classes.length === 0 ? 'No images yet.' : `${parts.join('; ')}.`;
}

/** The images whose classes have names; classes of one name are one. */
export function chosenImages(): Chosen {
  return chosenOf(classes);
}

/** What the classes are called that are chosen. */
export function chosenNames(): ClassNames {
  return classes.filter(({ name }) => name !== '').map(({ key, name }) => [key, name]);
}

/** The images of a set that were chosen before, by these names. */
export function chosenAgain(set: TestSet, names: ClassNames): Chosen {
  const known = new Map(names);
  return chosenOf(classesOf(set).map((one) => ({ ...one, name: known.get(one.key) ?? '' })));
}

function chosenOf(all: Class[]): Chosen {
  const named = all.filter(({ name }) => name !== '');
  const names = [...new Set(named.map(({ name }) => name))];
  const items: Item[] = [];
  const numbers: number[] = [];
  for (const one of named) {
    const number = names.indexOf(one.name);
    for (const item of one.items) {
      items.push(item);
      numbers.push(number);
    }
  }
  return { items, classes: numbers, names };
}

/** The classes of a set, called as the set calls them. */
function classesOf(set: TestSet): Class[] {
  const found = new Map<string, Item[]>();
  for (const item of set.items) {
    const key = keyOf(item);
    const known = found.get(key);
    if (known) known.push(item);
    else found.set(key, [item]);
  }
  return [...found].sort(([a], [b]) => order(a, b)).map(([key, items]) => ({ key, name: key, items }));
}

/** Shows the classes of a set. */
export function showClasses(set: TestSet): void {
  classes = classesOf(set);
  list.replaceChildren(...classes.map(row));
  tell();
}
