/** The labels of a model that knows several at once: a switch each, as decided now; one of them flipped is what is asked for. */

import { byId, make } from './dom';
import { percent } from './format';

const list = byId('labels');

interface Row {
  button: HTMLButtonElement;
  value: HTMLElement;
  wish: HTMLElement;
}

let rows: Row[] = [];
let names: string[] = [];
/** Decided now: whether each label is there. */
let there: boolean[] = [];
let flipped: number | undefined;
/** Whether the flip was made by hand; until then it is the label that is nearest to the other side. */
let chosen = false;

function draw(): void {
  rows.forEach(({ button, wish }, label) => {
    const flip = label === flipped;
    const on = (there[label] ?? false) !== flip;
    button.setAttribute('aria-checked', String(on));
    button.classList.toggle('flipped', flip);
    wish.textContent = flip ? (on ? 'to be added' : 'to be taken away') : there[label] ? 'is there' : 'is not there';
  });
}

/** Offers the labels of a model; none for a model whose images have one class. */
export function offerLabels(classNames: string[]): void {
  names = classNames;
  there = names.map(() => false);
  flipped = undefined;
  chosen = false;
  rows = names.map((name, label) => {
    const value = make('span', { className: 'label-value' });
    const wish = make('span', { className: 'label-wish' });
    const knob = make('span', { className: 'switch' });
    knob.setAttribute('aria-hidden', 'true');
    const words = [make('span', { className: 'label-name', textContent: name }), wish];
    const button = make('button', { type: 'button', className: 'label-row' }, knob, ...words, value);
    button.setAttribute('role', 'switch');
    button.dataset.label = name;
    button.addEventListener('click', () => {
      chosen = true;
      flipped = flipped === label ? undefined : label;
      draw();
    });
    return { button, value, wish };
  });
  list.replaceChildren(...rows.map(({ button }) => make('li', {}, button)));
  draw();
}

/** Shows what the model decides of the image now. */
export function showLabels(probabilities: Float32Array): void {
  there = names.map((_, label) => (probabilities[label] ?? 0) > 0.5);
  rows.forEach(({ value }, label) => {
    value.textContent = percent(probabilities[label] ?? 0);
  });
  if (!chosen) {
    const doubt = (label: number): number => Math.abs((probabilities[label] ?? 0) - 0.5);
    flipped = names.length > 0 ? names.reduce((best, _, label) => (doubt(label) < doubt(best) ? label : best), 0) : undefined;
  }
  draw();
}

/** The label that is flipped, and whether it is to be there. */
export function flippedLabel(): { label: number; name: string; present: boolean } | undefined {
  const name = flipped === undefined ? undefined : names[flipped];
  return flipped === undefined || name === undefined ? undefined : { label: flipped, name, present: !there[flipped] };
}

/** Flips the label of a name to be there or not, where it is not so yet. */
export function flipLabel(name: string, present: boolean): void {
  const label = names.indexOf(name);
  if (label < 0) return;
  chosen = true;
  flipped = there[label] === present ? undefined : label;
  draw();
}
