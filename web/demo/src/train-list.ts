/** The labelled images to train on. */

import { byId, fillSelect, make } from './dom';
import { plural } from './format';
import { copyOf, pixelsOf } from './picture';

interface Entry {
  picture: HTMLCanvasElement;
  /** Name of its class; empty: unlabelled. Names, because another model numbers its classes differently. */
  label: string;
  select: HTMLSelectElement;
}

const list = byId('train-list');
let entries: Entry[] = [];
let classNames: string[] = [];

function showCount(): void {
  byId('train-count').textContent =
    entries.length > 0 ? plural(entries.length, 'image') : 'No images yet: add samples, your drawing or pictures.';
}

function fillLabels(entry: Entry): void {
  fillSelect(entry.select, [
    ['', 'unlabelled'],
    ...classNames.map((name): [string, string] => [name, name]),
  ]);
  entry.select.value = classNames.includes(entry.label) ? entry.label : '';
}

/** Adds an image; a label that is no class of the model counts as none. */
export function addTrainingImage(picture: HTMLCanvasElement, label: string): void {
  const select = make('select');
  const entry: Entry = { picture: copyOf(picture), label, select };
  select.setAttribute('aria-label', 'Class of this image');
  select.addEventListener('change', () => {
    entry.label = select.value;
  });
  const thumbnail = copyOf(picture);
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
export function trainingData(): { images: ImageData[]; labels: (number | null)[] } {
  return {
    images: entries.map(({ picture }) => pixelsOf(picture)),
    labels: entries.map(({ select }) => (select.value === '' ? null : classNames.indexOf(select.value))),
  };
}
