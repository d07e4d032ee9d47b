/** Probabilities as bars. */

import type { Classification } from 'duet-diffusion';
import { make } from './dom';
import { percent } from './format';

/** More classes than this are too long a list: the most probable ones are shown. */
const MOST = 12;

/** The classes to show, in their own order: all, or the most probable by any of the answers. */
function shown(answers: Classification[], always: number[] = []): number[] {
  const classes = [...(answers[0]?.probabilities.keys() ?? [])];
  if (classes.length <= MOST) return classes;
  const weight = (c: number): number =>
    always.includes(c) ? 2 : Math.max(...answers.map((answer) => answer.probabilities[c] ?? 0));
  return classes
    .sort((a, b) => weight(b) - weight(a))
    .slice(0, MOST)
    .sort((a, b) => a - b);
}

/** A bar of a probability; the number beside it says the same, so it is nothing to read out. */
function bar(probability: number, kind: string): HTMLElement {
  const fill = make('span', { className: `bar ${kind}` });
  fill.setAttribute('aria-hidden', 'true');
  fill.style.setProperty('--share', String(Math.max(0, Math.min(1, probability))));
  return fill;
}

/** Fills the list of probabilities. */
export function showBars(list: HTMLElement, answer: Classification, names: string[]): void {
  const classes = shown([answer]);
  const others = names.length - classes.length;
  list.replaceChildren(
    ...classes.map((c) => {
      const probability = answer.probabilities[c] ?? 0;
      const item = make(
        'li',
        { className: c === answer.best ? 'best' : '' },
        make('span', { className: 'bar-name', textContent: names[c] ?? String(c) }),
        bar(probability, 'before'),
        make('span', { className: 'bar-value', textContent: percent(probability) }),
      );
      item.dataset.label = names[c] ?? String(c);
      return item;
    }),
    ...(others > 0 ? [make('li', { className: 'others', textContent: `${others} less probable ones are not shown.` })] : []),
  );
}

/** Fills the table of probabilities before and after. */
export function showComparison(
  table: HTMLTableElement,
  before: Classification,
  after: Classification,
  target: number,
  names: string[],
): void {
  const head = ['Class', 'Before', 'After'].map((text) => {
    const cell = make('th', { textContent: text });
    cell.scope = 'col';
    return cell;
  });
  const rows = shown([before, after], [target]).map((c) => {
    const name = make('th', { textContent: names[c] ?? String(c) });
    name.scope = 'row';
    if (c === target) name.append(' ', make('span', { className: 'tag', textContent: 'target' }));
    const cell = (answer: Classification, kind: string): HTMLElement => {
      const probability = answer.probabilities[c] ?? 0;
      return make(
        'td',
        { className: c === answer.best ? 'best' : '' },
        make(
          'span',
          { className: 'bar-cell' },
          bar(probability, kind),
          make('span', { className: 'bar-value', textContent: percent(probability) }),
        ),
      );
    };
    return make('tr', {}, name, cell(before, 'before'), cell(after, 'after'));
  });
  const others = names.length - rows.length;
  if (others > 0) {
    const cell = make('td', { className: 'others', colSpan: 3, textContent: `${others} less probable ones are not shown.` });
    rows.push(make('tr', {}, cell));
  }
  table.replaceChildren(
    make('caption', { className: 'visually-hidden', textContent: 'Probabilities before and after' }),
    make('thead', {}, make('tr', {}, ...head)),
    make('tbody', {}, ...rows),
  );
}
