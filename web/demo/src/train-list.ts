/** The labelled images to train on. */

import { byId, fillSelect, make } from './dom';
import { plural } from './format';
import { copyOf } from './picture';
import type { Source } from './picture';

interface Entry {
  picture: Source;
  /** Name of its class; empty: unlabelled. Names, because another model numbers its classes differently. */
  label: string;
  /** Its choices are the numbers of the present model's classes. */
  select: HTMLSelectElement;
}

const list = byId('train-list');
let entries: Entry[] = [];
let classNames: string[] = [];

/** The number of a class by its name, in whatever letters. */
function numberOf(label: string): number {
  return classNames.findIndex((name) => name.toLowerCase() === label.toLowerCase());
}

/** Says how many images there are, and which of them count without a class. */
function showCount(): void {
  const words = [entries.length > 0 ? plural(entries.length, 'image') : 'No images yet: add samples, your drawing or pictures'];
  const without = entries.filter(({ select }) => select.value === '');
  if (without.length > 0) {
    const them = without.length === 1 ? 'it' : 'them';
    words.push(`${without.length === entries.length ? 'all' : without.length} without a class: the classifier learns nothing from ${them}`);
    const unknown = new Set(without.map(({ label }) => label).filter((label) => label !== ''));
    if (unknown.size > 0) words.push(`this model has no class ${[...unknown].slice(0, 5).join(', ')}`);
  }
  byId('train-count').textContent = `${words.join('; ')}.`;
}

function fillLabels(entry: Entry): void {
  fillSelect(entry.select, [
    ['', 'unlabelled'],
    ...classNames.map((name, c): [string, string] => [String(c), name]),
  ]);
  const number = numberOf(entry.label);
  entry.select.value = entry.label !== '' && number >= 0 ? String(number) : '';
}

/** Adds an image; with a label that is no class of the model it counts as having none, and that is said. */
export function addTrainingImage(picture: Source, label: string): void {
  const select = make('select');
  const entry: Entry = { picture, label, select };
  select.setAttribute('aria-label', 'Class of this image');
  select.addEventListener('change', () => {
    entry.label = select.value === '' ? '' : (classNames[Number(select.value)] ?? '');
    showCount();
  });
  const thumbnail = copyOf(picture.preview);
  thumbnail.className = 'pixels';
  thumbnail.setAttribute('role', 'img');
  thumbnail.setAttribute('aria-label', label || 'image');
  const remove = make('button', { className: 'remove', type: 'button', textContent: '×', title: 'Remove' });
  remove.setAttribute('aria-label', `Remove this image${label ? ` (${label})` : ''}`);
  const item = make('li', {}, thumbnail, select, remove);
  remove.addEventListener('click', () => {
    entries = entries.filter((other) => other !== entry);
    // The keyboard's focus goes on to the next one, not to the top of the page.
    const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector('button');
    item.remove();
    (next ?? byId('train-add-sample')).focus();
    showCount();
  });
  entries.push(entry);
  fillLabels(entry);
  list.append(item);
  showCount();
}

/** Offers the classes of a model. */
export function setTrainingClasses(names: string[]): void {
  classNames = names;
  entries.forEach(fillLabels);
  showCount();
}

/** The images and labels for the library. */
export function trainingData(): { images: (Blob | ImageData)[]; labels: (number | null)[] } {
  return {
    images: entries.map(({ picture }) => picture.image),
    labels: entries.map(({ select }) => (select.value === '' ? null : Number(select.value))),
  };
}
