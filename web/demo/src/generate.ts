/** The tab that makes new images. */

import type { DuetModel } from 'duet-diffusion';
import { byId, fillSelect, make, showRange } from './dom';
import { plural } from './format';
import { outdated } from './messages';
import { report, say } from './notice';
import { show } from './picture';
import { onModel, withModel } from './session';
import { saveSheet } from './sheet';
import { runTask } from './task';

const classSelect = byId<HTMLSelectElement>('generate-class');
const countInput = byId<HTMLInputElement>('generate-count');
const alpha = byId<HTMLInputElement>('generate-alpha');
const steps = byId<HTMLSelectElement>('generate-steps');
const seed = byId<HTMLInputElement>('generate-seed');
const grid = byId('generate-grid');
const save = byId<HTMLButtonElement>('generate-save');
const progress = byId<HTMLProgressElement>('generate-progress');
const progressText = byId('generate-progress-text');

/** A finished row of the grid. */
interface Row {
  name: string;
  images: ImageData[];
}

let rows: Row[] = [];

/** The classes asked for; `undefined` is unguided. */
function chosenClasses(model: DuetModel): (number | undefined)[] {
  if (classSelect.value === 'all') return [...model.info.classNames.keys()];
  return [classSelect.value === 'none' ? undefined : Number(classSelect.value)];
}

function clearRows(): void {
  rows = [];
  grid.replaceChildren();
  byId('generate-outdated').hidden = true;
}

function addRow(row: Row): void {
  rows.push(row);
  const canvases = row.images.map((image, i) => {
    const canvas = show(make('canvas', { className: 'pixels' }), image);
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `${row.name}, image ${i + 1} of ${row.images.length}`);
    return canvas;
  });
  grid.append(
    make(
      'div',
      { className: 'generate-row' },
      make('h3', { textContent: row.name }),
      make('div', { className: 'generate-images' }, ...canvases),
    ),
  );
}

async function generate(signal: AbortSignal): Promise<void> {
  const images = countInput.valueAsNumber;
  await withModel(async (model) => {
    const classes = chosenClasses(model);
    progress.value = 0;
    progressText.textContent = '';
    say(`Generating ${plural(images * classes.length, 'image')}…`);
    // A call for each class: rows appear as they are done, and memory does not grow with the number of classes.
    for (const [r, c] of classes.entries()) {
      const made = await model.sample({
        ...(c === undefined ? {} : { class: c }),
        count: images,
        alpha: alpha.valueAsNumber,
        steps: Number(steps.value),
        // Rows of the same seed would all begin from the same noise.
        seed: seed.valueAsNumber + r,
        signal,
        onStep: ({ done, total }) => {
          progress.max = total * classes.length;
          progress.value = total * r + done;
          const row = classes.length > 1 ? `row ${r + 1} of ${classes.length}, ` : '';
          progressText.textContent = `${row}step ${done} of ${total}`;
        },
      });
      // What was there stays until there is something in its place.
      if (r === 0) clearRows();
      addRow({ name: c === undefined ? 'Unguided' : (model.info.classNames[c] ?? String(c)), images: made });
      save.hidden = false;
    }
    say(`Done: ${plural(images * classes.length, 'image')}.`);
  });
}

/** Wires the tab. */
export function startGenerate(): void {
  showRange('generate-alpha', String);
  onModel(({ info }, change) => {
    const note = byId('generate-outdated');
    note.textContent = outdated(change, 'What is shown');
    note.hidden = rows.length === 0;
    fillSelect(classSelect, [
      ['all', 'All, a row for each'],
      ...info.classNames.map((name, c): [string, string] => [String(c), name]),
      ['none', 'None (unguided)'],
    ]);
  });
  byId<HTMLFormElement>('generate-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void runTask(byId<HTMLButtonElement>('generate-cancel'), async (signal) => {
      byId('generate-empty').hidden = true;
      try {
        await generate(signal);
      } finally {
        byId('generate-empty').hidden = rows.length > 0;
      }
    });
  });
  save.addEventListener('click', () => {
    const sheet = rows.map(({ name, images }) => ({ name, tiles: images.map((image) => ({ image })) }));
    saveSheet('duet-images.png', sheet, undefined, 84).catch(report);
  });
}
