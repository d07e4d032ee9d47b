/** The sample images, all fetched at the start so that the page works offline afterwards. */

import { byId, make } from './dom';
import { copyOf, readPicture } from './picture';

/** A sample image. */
export interface Sample {
  /** Name of its class. */
  label: string;
  /** The picture. */
  picture: HTMLCanvasElement;
}

/** Fetches the samples. */
export async function fetchSamples(): Promise<Sample[]> {
  const answer = await fetch('./images/index.json');
  if (!answer.ok) throw new Error(`images/index.json: ${answer.status}`);
  const entries = (await answer.json()) as { file: string; label: string }[];
  return Promise.all(
    entries.map(async ({ file, label }) => {
      const picture = await fetch(`./images/${file}`);
      if (!picture.ok) throw new Error(`images/${file}: ${picture.status}`);
      return { label, picture: await readPicture(await picture.blob()) };
    }),
  );
}

/** Fills the grid with a button for each sample. */
export function showSamples(samples: Sample[], choose: (sample: Sample) => void): void {
  const grid = byId('sample-grid');
  const seen = new Map<string, number>();
  grid.replaceChildren(
    ...samples.map((sample) => {
      const nth = (seen.get(sample.label) ?? 0) + 1;
      seen.set(sample.label, nth);
      const button = make('button', { type: 'button', title: sample.label }, copyOf(sample.picture));
      button.dataset.label = sample.label;
      button.setAttribute('aria-label', nth === 1 ? sample.label : `${sample.label}, number ${nth}`);
      button.setAttribute('aria-pressed', 'false');
      button.addEventListener('click', () => {
        choose(sample);
        unmarkSamples();
        button.setAttribute('aria-pressed', 'true');
      });
      return button;
    }),
  );
}

/** Marks no sample as chosen: the image is something else now. */
export function unmarkSamples(): void {
  for (const other of byId('sample-grid').children) other.setAttribute('aria-pressed', 'false');
}
