/** Several counterfactuals side by side: a column each, chosen one at a time. */

import type { Explanation } from 'duet-diffusion';
import { shareOf, touched } from './changes';
import { byId, make } from './dom';
import { percent } from './format';
import { arrowKeys } from './grid-keys';
import { show } from './picture';

/** A canvas that its button names. */
function image(pixels: ImageData): HTMLCanvasElement {
  return show(make('canvas', { className: 'pixels' }), pixels);
}

/** One column: counterfactual over difference, and what came of it. */
function column(explanation: Explanation, name: string): HTMLButtonElement {
  const p = explanation.after.probabilities[explanation.target] ?? 0;
  const change = percent(shareOf(touched(explanation)));
  const button = make(
    'button',
    { type: 'button' },
    make('span', { className: 'gallery-name', textContent: name }),
    image(explanation.counterfactual),
    image(explanation.difference),
    make('span', { className: 'gallery-figure', textContent: explanation.reached ? percent(p) : `${percent(p)}, missed` }),
    make('span', { className: 'gallery-figure', textContent: `${change} changed` }),
  );
  button.classList.toggle('missed', !explanation.reached);
  const outcome = `${explanation.reached ? '' : 'not '}reached, probability ${percent(p)}, changes ${change} of the picture`;
  // Named by what is to be read on it; this says more.
  button.title = `${name}: ${outcome}`;
  return button;
}

/** Shows answers with a name each, one of them chosen; `choose` hears which one is wanted. A single answer needs no gallery. */
export function showGallery(
  heading: string,
  answers: { explanation: Explanation; name: string }[],
  chosen: number,
  choose: (index: number) => void,
): void {
  const box = byId('gallery-box');
  const gallery = byId('gallery');
  box.hidden = answers.length < 2;
  byId('gallery-heading').textContent = `${heading}: counterfactual above, difference below`;
  const buttons = answers.map(({ explanation, name }) => column(explanation, name));
  const mark = (index: number): void =>
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === index)));
  buttons.forEach((button, index) => {
    button.addEventListener('click', () => {
      mark(index);
      choose(index);
    });
  });
  mark(chosen);
  arrowKeys(buttons, chosen);
  gallery.replaceChildren(...buttons);
}
