/** Keeps the page and the models that were used for when there is no network. */

import { DATA } from '../offline/names';
import { byId } from './dom';
import type { Choice } from './models';

const line = byId('offline');

/** The worker that keeps the page, once it is there; nothing where a browser has none, as in private windows. */
let keeper: Promise<unknown> | undefined;

function begin(): Promise<unknown> | undefined {
  if (!('serviceWorker' in navigator) || !('caches' in window)) return undefined;
  keeper ??= navigator.serviceWorker.register('./offline.js').then(
    () => navigator.serviceWorker.ready,
    (error: unknown) => {
      // A server without that file, or a browser that refuses: the page works as long as there is a network.
      console.warn(error);
      return undefined;
    },
  );
  return keeper;
}

/** Where everything is that belongs to a model; none of a file that the visitor brought. */
async function addresses({ source, card, icon, samples }: Choice): Promise<string[]> {
  if (typeof source !== 'string') return [];
  // A list may also say null of what there is not.
  const found = [source, './models.json', ...[card, icon].filter((one) => typeof one === 'string')];
  if (typeof samples !== 'string') return found;
  const list = `./${samples}/index.json`;
  const entries = (await (await fetch(list)).json()) as { file: string }[];
  return [...found, list, ...entries.map(({ file }) => `./${samples}/${file}`)];
}

/** Keeps what is not kept yet; most of it has just been fetched, so the browser has it. */
async function keepAll(wanted: string[]): Promise<void> {
  const cache = await caches.open(DATA);
  const missing = wanted.map(async (address) => {
    if (!(await cache.match(address))) await cache.add(address);
  });
  await Promise.all(missing);
}

/** Keeps a model that has been loaded and all that is shown with it, and says which of `choices` are kept. */
export async function keepOffline(choice: Choice, choices: Choice[]): Promise<void> {
  try {
    if (!(await begin())) return;
    await keepAll(await addresses(choice));
    const cache = await caches.open(DATA);
    const there = choices.map(async ({ name, source }) =>
      typeof source === 'string' && (await cache.match(source)) ? [name] : [],
    );
    const names = (await Promise.all(there)).flat();
    line.textContent = `Works without a network, too, with the models used so far: ${names.join(', ')}.`;
    line.hidden = names.length === 0;
  } catch (error) {
    console.warn(error);
  }
}
