/** Starts the page. */

import { startAbout } from './about';
import { byId } from './dom';
import { setImage } from './editor';
import { startExplain } from './explain';
import { startGenerate } from './generate';
import { ignoreStrayDrops } from './incoming';
import { startLinks } from './link';
import { report } from './notice';
import { fetchSamples, showSamples } from './samples';
import type { Sample } from './samples';
import { openModel } from './session';
import { startTabs } from './tabs';
import { offerSamples, startTrain } from './train';

/** Nothing may fail in silence. */
window.addEventListener('error', (event) => {
  // Events without an error are remarks of the browser, such as on late resize notifications.
  if (event.error) report(event.error);
});
window.addEventListener('unhandledrejection', (event) => report(event.reason));

const tabList = document.querySelector<HTMLElement>('[role=tablist]');
if (tabList) startTabs(tabList);
startExplain();
startGenerate();
startTrain();
startAbout();
ignoreStrayDrops();

const open = byId<HTMLInputElement>('open-model');
open.addEventListener('change', () => {
  const file = open.files?.[0];
  if (file) void openModel(file, file.name);
  // Choosing the same file again must be a change again.
  open.value = '';
});

async function startSamples(): Promise<void> {
  let samples: Sample[] = [];
  try {
    samples = await fetchSamples();
  } catch (error) {
    // The page is of use without samples.
    console.warn(error);
    const why = error instanceof Error ? error.message : String(error);
    byId('sample-grid').textContent = `The samples could not be fetched: ${why}.`;
  }
  const choose = ({ picture, label }: Sample): void => {
    setImage(picture, label).catch(report);
  };
  showSamples(samples, choose);
  offerSamples(samples);
  if (!startLinks()) byId('sample-grid').querySelector('button')?.click();
}

const address = new URLSearchParams(location.search).get('model') ?? './model.safetensors';
// An absolute address, because a worker's own base is another.
const absolute = new URL(address, document.baseURI);
void startSamples();
void openModel(absolute.href, absolute.pathname.split('/').pop() || absolute.host);
