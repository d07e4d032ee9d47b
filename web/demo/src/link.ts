/** Links to a question: the sample and the settings, behind the address's #. */

import { askedText, proposeTarget, setAsked } from './ask';
import { classifySoon } from './classify';
import { editorSource } from './editor';
import { alertWith, say } from './notice';
import { chosenModel } from './models';
import type { Choice } from './models';
import { chooseSample, sampleFile } from './samples';

/** Puts the question that the form asks into the page's address. */
export function noteLink(): void {
  const words = new URLSearchParams();
  const sample = sampleFile(editorSource());
  if (sample !== undefined) words.set('sample', sample);
  for (const [name, value] of askedText()) words.set(name, value);
  history.replaceState(null, '', `#${words}`);
}

/**
 * Puts the model into the page's address: the first of the list needs no word, and a file of the visitor's cannot be
 * there. A question to the model before goes, unless the page was opened with it.
 */
export function noteModel({ id }: Choice, first: boolean, keep: boolean): void {
  const address = new URL(location.href);
  if (id === undefined || first) address.searchParams.delete('model');
  else address.searchParams.set('model', id);
  if (!keep) address.hash = '';
  history.replaceState(null, '', address);
}

/** Copies the page's address, which is the question of the result that is shown. */
export async function copyLink(): Promise<void> {
  const missing: string[] = [];
  if (!new URLSearchParams(location.hash.slice(1)).has('sample')) missing.push('the picture');
  if (chosenModel()?.id === undefined) missing.push('the model');
  const more =
    missing.length === 0
      ? ''
      : ` It holds the settings; ${missing.join(' and ')} ${missing.length === 1 ? 'itself is' : 'themselves are'} not in it.`;
  try {
    await navigator.clipboard.writeText(location.href);
    say(`The link is copied.${more}`);
  } catch {
    // Browsers may forbid it; the address is there to be copied all the same.
    say(`The link is in the address bar.${more}`);
  }
}

/** Sets sample and settings as the address says. Says whether it chose a sample. */
function follow(): boolean {
  const words = new URLSearchParams(location.hash.slice(1));
  if ([...words.keys()].length === 0) return false;
  setAsked(words);
  const sample = words.get('sample');
  if (sample !== null && chooseSample(sample)) return true;
  if (sample !== null) alertWith(`This page has no sample ${sample}: the link’s settings are set all the same.`);
  // A label's switch is set by what the image shown is now.
  classifySoon(false, proposeTarget);
  return false;
}

/** Follows the address that the page was opened with, and others that come; says whether the first chose a sample. */
export function startLinks(): boolean {
  window.addEventListener('hashchange', follow);
  return follow();
}
