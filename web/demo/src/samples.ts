/** The sample images of a model, all fetched with it so that the page works offline afterwards. */

import { byId, make } from './dom';
import { arrowKeys } from './grid-keys';
import { alertWith } from './notice';
import { copyOf, readSource } from './picture';
import type { Source } from './picture';

/** A sample image. */
export interface Sample {
  /** Its file's name. */
  file: string;
  /** Name of its class. */
  label: string;
  /** The picture. */
  picture: Source;
}

/** Fetches the samples of a folder; those that cannot be read are named and left out. */
export async function fetchSamples(folder: string, signal: AbortSignal): Promise<Sample[]> {
  try {
    return await fetchAll(folder, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    // The page is of use without samples.
    console.warn(error);
    alertWith(`The samples could not be fetched: ${error instanceof Error ? error.message : String(error)}.`);
    return [];
  }
}

async function fetchAll(folder: string, signal: AbortSignal): Promise<Sample[]> {
  const answer = await fetch(`./${folder}/index.json`, { signal });
  if (!answer.ok) throw new Error(`${folder}/index.json: status ${answer.status}`);
  const entries = (await answer.json()) as { file: string; label: string }[];
  const missing: string[] = [];
  const read = entries.map(async ({ file, label }) => {
    try {
      const picture = await fetch(`./${folder}/${file}`, { signal });
      if (!picture.ok) throw new Error(`status ${picture.status}`);
      return [{ file, label, picture: await readSource(new File([await picture.blob()], file)) }];
    } catch (error) {
      if (signal.aborted) throw error;
      missing.push(`${file} (${error instanceof Error ? error.message : String(error)})`);
      return [];
    }
  });
  const samples = (await Promise.all(read)).flat();
  if (missing.length > 0) {
    alertWith(`${missing.length} of ${entries.length} samples could not be read: ${missing.slice(0, 4).join(', ')}`);
  }
  return samples;
}

/** Buttons and files of the samples in the grid. */
const shown = new Map<Source, { button: HTMLElement; file: string }>();

/** More classes than this do not get a column each. */
const MOST_COLUMNS = 12;

/** Pixels of the page that a sample is wide at most. */
const LARGEST = 72;

/** Fills the grid with a button for each sample: a column per class, one stop for the Tab key, arrows move inside. */
export function showSamples(samples: Sample[], choose: (sample: Sample) => void): void {
  const grid = byId('sample-grid');
  shown.clear();
  const classes = [...new Set(samples.map(({ label }) => label))];
  const columns = classes.length <= MOST_COLUMNS;
  // Few classes get no larger pictures than many.
  grid.style.gridTemplateColumns =
    columns && classes.length > 0 ? `repeat(${classes.length}, minmax(0, ${LARGEST}px))` : '';
  const seen = new Map<string, number>();
  const buttons = samples.map((sample) => {
    const nth = (seen.get(sample.label) ?? 0) + 1;
    seen.set(sample.label, nth);
    const button = make('button', { type: 'button', title: sample.label }, copyOf(sample.picture.preview));
    if (columns) button.style.gridColumn = String(classes.indexOf(sample.label) + 1);
    button.dataset.label = sample.label;
    button.setAttribute('aria-label', nth === 1 ? sample.label : `${sample.label}, number ${nth}`);
    button.setAttribute('aria-pressed', 'false');
    button.addEventListener('click', () => {
      choose(sample);
      markSample(sample.picture);
    });
    shown.set(sample.picture, { button, file: sample.file });
    return button;
  });
  arrowKeys(buttons);
  grid.replaceChildren(...buttons);
}

/** Whether a picture is one of the samples. */
export function isSample(picture: Source): boolean {
  return shown.has(picture);
}

/** Marks the sample that the image is, or none. */
export function markSample(picture: Source | undefined): void {
  const chosen = picture && shown.get(picture)?.button;
  for (const button of byId('sample-grid').children) button.setAttribute('aria-pressed', String(button === chosen));
}

/** The file of the sample that the image is, if it is one. */
export function sampleFile(picture: Source | undefined): string | undefined {
  return picture && shown.get(picture)?.file;
}

/** Chooses the sample of a file, or says that there is none. */
export function chooseSample(file: string): boolean {
  const found = [...shown.values()].find((sample) => sample.file === file);
  found?.button.click();
  return found !== undefined;
}
