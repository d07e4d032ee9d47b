/** Tables of figures, the same for eyes and screen readers. */

import { make } from './dom';

/** A heading cell. */
export function heading(text: string, scope: 'col' | 'row', className = ''): HTMLTableCellElement {
  const cell = make('th', { textContent: text, className });
  cell.scope = scope;
  return cell;
}

/** Fills a table: a caption, names of the columns, and rows that begin with their names. */
export function fillTable(table: HTMLElement, caption: string, columns: string[], rows: string[][]): void {
  table.replaceChildren(
    make('caption', { textContent: caption }),
    make('thead', {}, make('tr', {}, ...columns.map((name) => heading(name, 'col')))),
    make(
      'tbody',
      {},
      ...rows.map(([name = '', ...cells]) =>
        make('tr', {}, heading(name, 'row'), ...cells.map((text) => make('td', { textContent: text }))),
      ),
    ),
  );
}
