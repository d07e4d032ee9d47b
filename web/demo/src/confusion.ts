/** What images of each class were taken for, as a table with a tint. */

import { fillTable, heading } from './data-table';
import { make } from './dom';

/** More classes than this are too large a table: the most frequent mistakes are listed. */
const MOST = 30;
/** How many of those. */
const MISTAKES = 30;

/** Fills a table with the counts: a row for each true class, a column for each answer. */
export function showConfusion(table: HTMLElement, counts: number[][], names: string[]): void {
  table.classList.toggle('matrix', names.length <= MOST);
  if (names.length > MOST) {
    showMistakes(table, counts, names);
    return;
  }
  const corner = heading('Is', 'col');
  const head = make('tr', {}, corner, ...names.map((name) => heading(name, 'col', 'answer')));
  const rows = counts.map((row, truth) => {
    const all = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count, answer) => {
      const kind = count === 0 ? 'nothing' : truth === answer ? 'right' : 'wrong';
      const cell = make('td', { textContent: count.toLocaleString('en'), className: kind });
      // Mistakes are few beside what is right: the root keeps them in sight.
      if (count > 0) cell.style.setProperty('--share', String(Math.sqrt(count / all)));
      return cell;
    });
    return make('tr', {}, heading(names[truth] ?? String(truth), 'row'), ...cells);
  });
  table.replaceChildren(
    make('caption', { textContent: 'A row for each class that images are of, a column for each class that they were taken for.' }),
    make('thead', {}, head),
    make('tbody', {}, ...rows),
  );
}

function showMistakes(table: HTMLElement, counts: number[][], names: string[]): void {
  const mistakes = counts.flatMap((row, truth) =>
    row.flatMap((count, answer) => (count > 0 && truth !== answer ? [{ truth, answer, count }] : [])),
  );
  mistakes.sort((a, b) => b.count - a.count);
  const name = (number: number): string => names[number] ?? String(number);
  fillTable(
    table,
    `The most frequent mistakes of ${names.length} classes; the whole table is in the JSON.`,
    ['Is', 'Taken for', 'Images'],
    mistakes.slice(0, MISTAKES).map(({ truth, answer, count }) => [name(truth), name(answer), count.toLocaleString('en')]),
  );
}
